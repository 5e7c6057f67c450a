"""A job's explanations as EleutherAI's delphi keeps them, so that its scorers and `explanation_loader` read them.

Shape: EleutherAI/delphi, delphi/__main__.py (explainer_postprocess): `explanations/<hookpoint>_latent<number>.txt`, each one JSON text.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.judging.delphi import delphi_name
from mistudio_explain.reporting.records import claim


@dataclass(slots=True)
class Written:
    """What went into a folder."""

    explanations: int = 0
    renumbered: list[str] = field(default_factory=list)
    """Features whose id is no number: delphi's latents have numbers, so each got one that hangs on the id alone."""


def write_delphi(folder: Path, outcomes: Iterable[FeatureOutcome]) -> Written:
    """Write `explanations/` below `folder`, one file for each explained feature; the hookpoint is the feature's source, else its job."""
    written = Written()
    explanations = folder / "explanations"
    explanations.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        said, subject = claim(outcome), outcome.subject
        if said is None or subject.feature_id is None:
            continue
        if not subject.feature_id.isdigit():
            written.renumbered.append(subject.feature_key)
        (explanations / delphi_name(subject.explain_job_id, subject.feature_id, subject.source_id)).write_bytes(orjson.dumps(said))
        written.explanations += 1
    return written
