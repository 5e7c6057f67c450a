"""The backgrounds that a context service is building."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from mistudio_explain.context.background import empty, freeze, include
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import JobBackground

Stored = Callable[[str, str], JobBackground | None]
"""The background that stands in the topic, by tenant and find job."""

_Key = tuple[str, str]


class Samples:
    """Backgrounds beyond what stands in the topic; `stored` is asked first, so that a restart goes on where it was."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._ahead: dict[_Key, JobBackground] = {}
        self._key_of_job: dict[str, _Key] = {}
        self._sealed: dict[str, int] = {}
        self._partial: set[str] = set()

    def include(self, features: Iterable[FeatureFound]) -> list[JobBackground]:
        """Count features, in log order; returns the backgrounds that changed and must be published."""
        grouped: dict[_Key, list[FeatureFound]] = defaultdict(list)
        for feature in features:
            request = feature.effective_request
            key = (request.tenant, feature.find_job_id)
            grouped[key].append(feature)
            self._key_of_job[request.explain_job_id] = key
        changed = []
        for key, found in grouped.items():
            before = self._latest(key) or empty(key[1], key[0], found[0].target_model)
            after = include(before, found)
            for job in {feature.effective_request.explain_job_id for feature in found} & self._sealed.keys():
                after = freeze(after, self._sealed[job])
            if after is not before:
                changed.append(after)
        return changed

    def published(self, backgrounds: Iterable[JobBackground]) -> None:
        """Go on from these, now that they stand in the topic; before, a batch that is handled again must give them again."""
        for background in backgrounds:
            self._ahead[background.tenant, background.find_job_id] = background

    def requested(self, explain_job_id: str, tenant: str, find_job_id: str) -> None:
        """Learn which find job an explain job is about, so that its seal is understood after a restart too."""
        self._key_of_job[explain_job_id] = (tenant, find_job_id)

    def partial(self, explain_job_id: str) -> None:
        """Learn that a job's features are some of the find job's, as those of a replay: its seal says nothing of how many those are."""
        self._partial.add(explain_job_id)

    def seal(self, explain_job_id: str, expected: int) -> list[JobBackground]:
        """Note how many features a job has; returns the background that is complete by this."""
        if explain_job_id in self._partial:
            return []
        self._sealed[explain_job_id] = expected
        key = self._key_of_job.get(explain_job_id)
        before = self._latest(key) if key else None
        if key is None or before is None:
            return []
        after = freeze(before, expected)
        return [] if after is before else [after]

    def _latest(self, key: _Key) -> JobBackground | None:
        stored, ahead = self._stored(*key), self._ahead.get(key)
        if ahead is not None and (stored is None or ahead.version > stored.version):
            return ahead
        self._ahead.pop(key, None)  # the topic has caught up
        return stored
