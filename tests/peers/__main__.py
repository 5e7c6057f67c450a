"""`make test-formats`: what we write, read by other projects' own packages, and what they and we read in the same files, side by side.

The packages live in an environment of their own, `.venv-formats`, which the first run makes from requirements.txt (about 100 MB). Ends with 1
when anything differs.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mistudio_explain.events.explanation import Answer, Evidence, FeatureOutcome, Generation, OutcomeKind, Subject
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.intake.formats.choice import read_input, read_said
from mistudio_explain.intake.formats.tokens import readable, readable_token
from mistudio_explain.reporting.delphi import write_delphi
from mistudio_explain.reporting.neuronpedia import Target, write_neuronpedia

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "data" / "formats"
BATCH = SAMPLES / "saedashboard" / "batch-1.json.gz"
NEURONS = SAMPLES / "openai" / "neurons.jsonl"
HERE = Path(__file__).parent
PYTHON = ROOT / ".venv-formats" / "bin" / "python"
AT_MS = 1_785_079_845_000

Check = tuple[str, bool]


def environment() -> Path:
    """The Python of the packages' environment; made when it is not there or its packages have changed."""
    requirements = HERE / "requirements.txt"
    installed = PYTHON.parents[1] / requirements.name
    if not installed.is_file() or installed.read_text() != requirements.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", PYTHON.parents[1]], check=True)
        subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", requirements], check=True)
        installed.write_text(requirements.read_text())
    return PYTHON


def outcome(feature: FeatureFound) -> FeatureOutcome:
    """An outcome of the feature with all of its texts, and an explanation that names it."""
    return FeatureOutcome(
        outcome=OutcomeKind.EXPLAINED,
        subject=Subject.of(feature, None),
        evidence=Evidence(seen=feature.top_activations),
        answer=Answer(pattern=f"“{feature.feature_key}”: what the texts\nof this feature share"),
        generation=Generation(model="meta/llama3.1:8b", endpoint="gpu0", provider="ollama", latency_s=1.0, finish_reason="stop"),
    )


def texts_of(feature: FeatureFound) -> list[list[Any]]:
    return [[text.tokens, text.token_activations] for text in feature.top_activations]


def written_for_them(folder: Path, features: list[FeatureFound], theirs: Any) -> Iterator[Check]:
    """What we wrote, as they read it."""
    outcomes = [outcome(feature) for feature in features]
    said = {feature.feature_id: each.answer.pattern for feature, each in zip(features, outcomes, strict=True) if each.answer}
    texts = [["gpt2-small", "0-res-jb", int(feature.feature_id), *text] for feature in features for text in texts_of(feature)]
    yield "neuronpedia reads every text that we wrote, token by token", theirs["neuronpedia"]["texts"] == texts
    explanations = [["gpt2-small", "0-res-jb", int(number), text, "mistudio-explain", "llama3.1:8b"] for number, text in said.items()]
    yield "neuronpedia reads every explanation, with its method and model", theirs["neuronpedia"]["explanations"] == explanations
    yield "delphi's explanation_loader reads every explanation", theirs["delphi"] == list(said.values())
    source = folder / "neuronpedia" / "gpt2-small" / "0-res-jb"
    back = {feature.feature_id: feature for feature in read_input(source).features()}
    yield "what we wrote for neuronpedia comes back as it was", all(texts_of(back[one.feature_id]) == texts_of(one) for one in features)
    yield (
        "explanations for neuronpedia come back",
        {key.split("/")[1]: list(texts) for key, texts in read_said(source).explanations.items()} == {number: [text] for number, text in said.items()},
    )
    explained = read_said(folder / "delphi", features=source).explanations
    yield (
        "explanations for delphi come back",
        {key.split("/")[1]: list(texts) for key, texts in explained.items()} == {number: [text] for number, text in said.items()},
    )


def read_by_both(features: list[FeatureFound], theirs: Any) -> Iterator[Check]:
    """The same files, read by them and by us."""
    batch = {str(each["index"]): each for each in theirs["saedashboard"]["features"]}
    yield "SAEDashboard and we read the same features of a batch", {feature.feature_id for feature in features} == batch.keys()
    for feature in features:
        other = batch[feature.feature_id]
        firing = [list(readable(tokens, values)) for tokens, values in other["texts"] if max(values) > 0]
        different = {json.dumps(["".join(tokens), max(values)]) for tokens, values in firing}
        ours = {json.dumps([text.text, text.activation_strength]) for text in feature.top_activations}
        yield f"  feature {feature.feature_id}: the same texts and strengths", ours == different
        yield f"  feature {feature.feature_id}: every text with its tokens and values", all(pair in firing for pair in texts_of(feature))
        logits = [[readable_token(token), value] for token, value in other["logits"]]
        yield f"  feature {feature.feature_id}: the same logits", [[logit.token, logit.value] for logit in feature.top_logits or []] == logits
        assert feature.activation_statistics is not None
        yield f"  feature {feature.feature_id}: the same density", feature.activation_statistics.frequency == other["density"]
    neurons = {(feature.source_id, feature.feature_id): feature for feature in read_input(NEURONS, target_model="gpt2-xl").features()}
    yield "OpenAI's package and we read the same neurons", {(str(layer), str(neuron)) for layer, neuron, _, _ in theirs["openai"]} == neurons.keys()
    for layer, neuron, greatest, texts in theirs["openai"]:
        ours = neurons[str(layer), str(neuron)]
        strongest = ours.top_activations[0].activation_strength
        firing = [text for text in texts if max(text[1]) > 0]
        yield f"  neuron {layer}/{neuron}: the same texts and maximum", strongest == greatest and sorted(texts_of(ours)) == sorted(firing)


def main() -> int:
    """Make, read, compare and print; 1 when anything differs."""
    features = list(read_input(BATCH).features())
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_neuronpedia(folder / "neuronpedia", map(outcome, features), AT_MS, Target())
        write_delphi(folder / "delphi", map(outcome, features))
        asked = {
            "neuronpedia": [str(folder / "neuronpedia" / "gpt2-small" / "0-res-jb")],
            "saedashboard": [str(BATCH)],
            "openai": [str(NEURONS)],
            "delphi": [str(folder / "delphi" / "explanations"), [[feature.source_id, int(feature.feature_id)] for feature in features]],
        }
        ran = subprocess.run([environment(), HERE / "theirs.py"], input=json.dumps(asked), capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            sys.stderr.write(ran.stderr[-4000:])
            return 1
        theirs = json.loads(ran.stdout)
        checks = [*written_for_them(folder, features, theirs), *read_by_both(features, theirs)]
    sys.stdout.writelines(f"{'ok  ' if holds else 'FAIL'} {what}\n" for what, holds in checks)
    return 0 if all(holds for _, holds in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
