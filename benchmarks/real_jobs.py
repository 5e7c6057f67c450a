"""Jobs of any size out of the real features of examples/features, with their sources' explanations, scored as production scores them."""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

from mistudio_explain.evaluation.data import read_sets
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.settings import Settings
from mistudio_explain.validation.offline import Scorer, score_features
from mistudio_explain.validation.validator import Validator

_SETS = Path(__file__).parent.parent / "examples" / "features"


def real_outcomes() -> list[FeatureOutcome]:
    """The features that have an explanation, scored; about 450."""
    known = [each for found in read_sets(_SETS) for each in found.features if each.explanation]
    settings = Settings()
    scorer = Scorer.of(Validator.load(settings.quality), settings)
    return score_features([each.feature for each in known], [each.explanation or "" for each in known], scorer)


def renamed(outcomes: Sequence[FeatureOutcome], job: str, features: int) -> Iterator[FeatureOutcome]:
    """A job of so many features: the outcomes in turn, under the ids 0, 1 and so on."""
    for number, outcome in enumerate(islice(cycle(outcomes), features)):
        identity = {"explain_job_id": job, "find_job_id": "find_bench", "feature_id": str(number), "feature_key": str(number), "source_id": None}
        yield outcome.model_copy(update={"subject": outcome.subject.model_copy(update=identity)})
