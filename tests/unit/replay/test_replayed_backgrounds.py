"""A replay has some of its find job's features, so it says nothing of how many those are."""

from mistudio_explain.context.samples import Samples
from mistudio_explain.events.feature import FeatureFound


def test_a_replays_seal_does_not_freeze_the_background_of_a_find_job_that_is_still_being_read() -> None:
    samples = Samples(lambda tenant, find_job: None)
    samples.published(samples.include(FeatureFound(target_model="m", find_job_id="find_1", feature_id=str(n)) for n in range(3)))
    samples.requested("explain_1_replay", "default", "find_1")
    samples.partial("explain_1_replay")
    assert samples.seal("explain_1_replay", 2) == []
    (frozen,) = samples.seal("explain_1", 3)
    assert (frozen.frozen, frozen.distinct) == (True, 3)
