"""A judge's answers as EleutherAI's delphi writes them, for its analysis (delphi/log/result_analysis.py).

delphi keeps one file a feature and scorer, `<hookpoint>_latent<number>.txt` in a folder `detection` or `fuzz`: a JSON
list with, for each example, `str_tokens`, `activations`, `distance`, `activating`, `prediction`, `probability` and
`correct`. An answer that could not be read has `prediction` and `correct` null; `probability` is null, as in delphi
without log probabilities. Where the activations are not known, `str_tokens` holds the text in one piece and `activations` is empty.
"""

from collections.abc import Iterable
from typing import Any

from mistudio_explain.events.identity import plain_name
from mistudio_explain.judging.stage import Answered, Kind, seed

FOLDERS: dict[Kind, str] = {"detection": "detection", "fuzzing": "fuzz"}


def delphi_scores(answered: Iterable[Answered]) -> list[dict[str, Any]]:
    """The examples that were asked about, in the order in which they were."""
    return [_example(each) for each in answered if each.asked]


def delphi_name(job: str, feature_id: str, source_id: str | None) -> str:
    """The name of a feature's file; delphi takes the latent's number from its end. A feature id that is no number gets one that hangs on the id alone."""
    latent = int(feature_id) if feature_id.isdigit() else seed("latent", feature_id) % 10**12
    return f"{plain_name(source_id or job)}_latent{latent}.txt"


def _example(each: Answered) -> dict[str, Any]:
    example = each.example
    return {
        "str_tokens": list(example.tokens),
        "activations": list(example.activations),
        "distance": example.distance,
        "activating": example.activating,
        "prediction": each.accepted,
        "probability": None,
        "correct": None if each.accepted is None else each.accepted == example.activating,
    }
