"""The backgrounds that a context service is building."""

from mistudio_explain.context.samples import Samples
from mistudio_explain.events.feature import Activation, FeatureFound, JobRequest
from mistudio_explain.events.job import JobBackground


def feature(number: int, *, find_job: str = "find_1", expected: int | None = None) -> FeatureFound:
    request = JobRequest(explain_job_id=find_job.replace("find", "explain"), expected=expected)
    return FeatureFound(target_model="m", find_job_id=find_job, feature_id=str(number), top_activations=[Activation(text=f"text {number}")], request=request)


class Topic:
    """What stands in the topic of backgrounds."""

    def __init__(self) -> None:
        self.best: dict[tuple[str, str], JobBackground] = {}

    def of(self, tenant: str, find_job_id: str) -> JobBackground | None:
        return self.best.get((tenant, find_job_id))

    def take(self, backgrounds: list[JobBackground]) -> None:
        for background in backgrounds:
            self.best[background.tenant, background.find_job_id] = background


def grown(samples: Samples, *features: FeatureFound) -> list[JobBackground]:
    """What including features changes, published."""
    changed = samples.include(features)
    samples.published(changed)
    return changed


def test_each_find_job_has_its_own_background_and_only_what_changed_is_published() -> None:
    samples = Samples(Topic().of)
    first = grown(samples, feature(1), feature(1, find_job="find_2"), feature(2))
    assert {(b.find_job_id, b.distinct) for b in first} == {("find_1", 2), ("find_2", 1)}
    assert [(b.find_job_id, b.distinct) for b in grown(samples, feature(2), feature(3))] == [("find_1", 3)]
    assert grown(samples, feature(3)) == []


def test_what_was_not_published_is_given_again() -> None:
    samples = Samples(Topic().of)
    first = samples.include([feature(1), feature(2)])
    assert samples.include([feature(1), feature(2)]) == first


def test_a_background_freezes_at_the_features_that_the_request_announces() -> None:
    samples = Samples(Topic().of)
    (open_one,) = grown(samples, feature(1, expected=2))
    assert not open_one.frozen
    (frozen,) = grown(samples, feature(2, expected=2))
    assert frozen.frozen
    assert grown(samples, feature(3, expected=2)) == []


def test_a_seal_freezes_whether_it_comes_before_or_after_the_last_feature() -> None:
    after = Samples(Topic().of)
    grown(after, feature(1), feature(2))
    sealed = after.seal("explain_1", 2)
    assert [b.frozen for b in sealed] == [True]
    after.published(sealed)
    assert after.seal("explain_1", 2) == []
    before = Samples(Topic().of)
    assert before.seal("explain_1", 2) == []
    assert [b.frozen for b in grown(before, feature(1), feature(2))] == [True]


def test_a_seal_after_a_restart_is_understood_from_the_jobs_request() -> None:
    topic = Topic()
    first = Samples(topic.of)
    topic.take(grown(first, feature(1), feature(2)))
    restarted = Samples(topic.of)
    restarted.requested("explain_1", "default", "find_1")
    assert [b.frozen for b in restarted.seal("explain_1", 2)] == [True]


def test_a_restart_goes_on_from_what_stands_in_the_topic() -> None:
    topic = Topic()
    topic.take(grown(Samples(topic.of), feature(1), feature(2)))
    restarted = Samples(topic.of)
    assert grown(restarted, feature(1), feature(2)) == []
    (after,) = grown(restarted, feature(2), feature(3))
    assert after.distinct == 3
    assert [after] == grown(Samples(Topic().of), feature(1), feature(2), feature(3))
