"""Whether a review is about something that is there."""

from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import FeatureReviewed
from mistudio_explain.store.queries import JobQueries

_SHOWN_FEATURES = 10


def is_of_a_feature(rows: JobQueries, review: FeatureReviewed) -> bool:
    """Whether the rows could say that the reviewed feature is there; raises BadInput when they say that it is not."""
    job, feature = review.explain_job_id, review.feature_key
    if rows.state(job) is None:
        return False
    if rows.has_outcome(job, feature):
        return True
    some = [key for _, key in zip(range(_SHOWN_FEATURES), rows.features(job), strict=False)]
    raise BadInput(f"job {job} has no outcome of a feature {feature!r}; it has {', '.join(some) or 'none'}{' ...' * (len(some) == _SHOWN_FEATURES)}")
