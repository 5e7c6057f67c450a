"""`evaluate --from-reviews`: the validator against people, on a job of the store or a file with reviews."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from mistudio_explain.cli.show import console, print_json
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadInput
from mistudio_explain.evaluation.reviews import Calibration, Estimate, Refit, Reviewed, ReviewFigures, measure, of_outcomes, of_records, refit
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import read_outcomes, reading

_VERDICTS = ("right", "partly", "wrong", "unclear")


def evaluate_reviews(source: str, *, refitted: bool, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Print how far the validator agrees with people, and with `refitted` the coefficients that people's verdicts give; nothing is written."""
    settings = prepare(config=config, profile=profile, quiet=True)
    reviewed = _reviewed(source, settings)
    if not reviewed:
        raise BadInput(f"{source}: nothing in it was reviewed; `mistudio-explain review JOB FEATURE --verdict ...` says what people think")
    if unknown := sorted({each.verdict for each in reviewed} - set(_VERDICTS)):
        raise BadInput(f"{source}: {unknown[0]!r} is no verdict; there are {', '.join(_VERDICTS)}")
    figures = measure(reviewed)
    fitted = refit(reviewed) if refitted else None
    if as_json:
        said = {"source": source, **asdict(figures)}
        if refitted:
            said["refit"] = {"unavailable": fitted} if isinstance(fitted, str) else asdict(fitted) if fitted else None
        print_json(said)
        return 0
    out = console()
    for line in (*figure_lines(figures), *(refit_lines(fitted) if fitted is not None else ())):
        out.print(line)
    return 0


def figure_lines(figures: ReviewFigures) -> Iterator[str]:
    """The figures for people."""
    counted = ", ".join(f"{figures.verdicts.get(verdict, 0)} {verdict}" for verdict in _VERDICTS)
    yield f"{figures.n} reviewed explanations: {counted}"
    for verdict in _VERDICTS:
        if verdict in figures.table:
            got = ", ".join(f"{count} {verification}" for verification, count in sorted(figures.table[verdict].items()))
            yield f"  people say {verdict}: {got}"
    yield f"agreement of verdicts: {_said(figures.agreement, figures.unavailable.get('agreement'))}"
    yield f"AUC of accuracy, right against wrong: {_said(figures.auc, figures.unavailable.get('auc'))}"
    yield from _calibration_lines("accuracy", figures.accuracy, figures.unavailable.get("accuracy"))
    yield from _calibration_lines("confidence", figures.confidence, figures.unavailable.get("confidence"))


def refit_lines(fitted: Refit | str) -> Iterator[str]:
    """The coefficients for people."""
    if isinstance(fitted, str):
        yield f"no refit: {fitted}"
        return
    yield f"refitted on {fitted.right} right and {fitted.wrong} wrong ones; these coefficients are printed, not used:"
    yield f"  intercept {_said(fitted.intercept, None)}, at even odds beforehand ({fitted.intercept_as_reviewed:+.2f} as reviewed)"
    for name, estimate in fitted.coefficients.items():
        yield f"  {name} {_said(estimate, None)}"
    yield f"  AUC {fitted.auc_refitted:.3f}, each fold by coefficients that did not see it; {fitted.auc_now:.3f} with those in use"


def _reviewed(source: str, settings: Settings) -> list[Reviewed]:
    path = Path(source)
    if path.is_file():
        return of_records(_records(path))
    with reading(settings.store) as store:
        if store.state(source) is None:
            raise BadInput(f"{source}: there is no such file, and the store {settings.store.url} has no such job; it has {', '.join(store.jobs(20)) or 'none'}")
    return of_outcomes(read_outcomes(settings.store, source))


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    """The explanations of a feature_explanations.json, or the lines of a JSON Lines file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    try:
        whole = orjson.loads(content)
    except orjson.JSONDecodeError:
        yield from _lines(path, content)
        return
    records = whole.get("explanations") if isinstance(whole, dict) and "explanations" in whole else [whole]
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise BadInput(f"{path}: is neither a feature_explanations.json nor JSON Lines of scored explanations")
    yield from records


def _lines(path: Path, content: bytes) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadInput(f"{path}, line {number}: is no JSON ({error})") from error
        if not isinstance(record, dict):
            raise BadInput(f"{path}, line {number}: is no JSON object")
        yield record


def _said(estimate: Estimate | None, why: str | None) -> str:
    if estimate is None:
        return f"not to be had: {why}"
    between = "" if estimate.low is None or estimate.high is None else f" ({estimate.low:.3f} to {estimate.high:.3f})"
    return f"{estimate.value:.3f}{between}, n = {estimate.n}"


def _calibration_lines(name: str, calibration: Calibration | None, why: str | None) -> Iterator[str]:
    yield f"calibration error of {name}: {_said(calibration.error if calibration else None, why)}"
    for said, seen, n in calibration.bins if calibration else ():
        yield f"  said {said:.2f}: {seen:.2f} of {n}"
