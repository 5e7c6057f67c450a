"""What a replay copies: which of a job's features, where their bytes stand, and whether those are the bytes that were promised."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import decode_leading
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.identity import default_explain_job_id, feature_key
from mistudio_explain.events.job import JobEvent, ReplayPart, RequestPart
from mistudio_explain.events.topics import FEATURES, REPLAYS, REQUESTS
from mistudio_explain.replay.where import parse

NEAR = 300
"""Records between two wanted ones that are read and passed over; a wider gap is jumped. A jump costs a fetch of up to
64 KiB that is thrown away and a round trip of about 2 ms, reading 300 records of 6 KB about as much."""

_HOLDS_FEATURES = frozenset({FEATURES, REPLAYS, REQUESTS})
_NAMED = 10


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Run(NamedTuple):
    """Offsets that are read at one go: from `start` to before `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Selection:
    """The features that a replay copies."""

    places: Mapping[str, Place]
    """By feature key."""
    unlocated: tuple[str, ...] = ()
    """Features that were asked for, and of which nothing says where their bytes stand."""

    def partitions(self) -> dict[tuple[str, int], dict[int, str]]:
        """Feature keys by offset, in rising order, for each topic and partition."""
        grouped: dict[tuple[str, int], dict[int, str]] = {}
        for key, place in sorted(self.places.items(), key=lambda item: item[1]):
            grouped.setdefault((place.topic, place.partition), {})[place.offset] = key
        return grouped


def select(part: ReplayPart, sources: Iterable[tuple[str, Place]], outcomes: Iterable[FeatureOutcome] | None) -> Selection:
    """Choose among the features of a job: `sources` say where each stands, `outcomes` what became of it.

    Outcomes are needed when the replay asks for some of them; they also locate features that failed before they were
    admitted. Raises BadInput for a condition that cannot be read.
    """
    condition = None if part.where is None else parse(part.where)
    places = dict(sources)
    everything, matching = set(places), set()
    for outcome in outcomes or ():
        key, source = outcome.subject.feature_key, outcome.subject.source
        everything.add(key)
        if source is not None and source.topic in _HOLDS_FEATURES:
            places.setdefault(key, Place(source.topic, source.partition, source.offset))
        if (not part.failed_only or outcome.outcome is OutcomeKind.FAILED) and (condition is None or condition.matches(outcome)):
            matching.add(key)
    asked = set(part.features) or everything
    if needs_outcomes(part):
        asked &= matching
    return Selection({key: place for key, place in places.items() if key in asked}, tuple(sorted(asked - places.keys())))


def needs_outcomes(part: ReplayPart) -> bool:
    """Whether the replay chooses by what became of the features."""
    return part.where is not None or part.failed_only


def runs(offsets: Sequence[int], near: int = NEAR) -> list[Run]:
    """Join rising offsets into runs; a gap of more than `near` unwanted records ends one."""
    found: list[Run] = []
    for offset in offsets:
        if found and offset - found[-1].end <= near:
            found[-1] = Run(found[-1].start, offset + 1)
        else:
            found.append(Run(offset, offset + 1))
    return found


@dataclass(frozen=True, slots=True)
class Identity:
    """Which feature a record's bytes are about."""

    target_model: str
    find_job_id: str
    feature_key: str


def identity_of(value: bytes | None) -> Identity | None:
    """Read the identity from a feature's bytes, and no more of them; None when they are no feature."""
    if value is None:
        return None
    try:
        fields = decode_leading(FeatureFound, value, "source_id")
    except MalformedEvent:
        return None
    return Identity(fields["target_model"], fields["find_job_id"], feature_key(fields["feature_id"], fields["source_id"]))


def request_of(order: JobEvent, asked: RequestPart, expected: int | None) -> JobRequest:
    """The block that every copy carries; it takes the place of the one in the copied bytes."""
    return JobRequest(
        explain_job_id=order.explain_job_id,
        revision=order.revision,
        tenant=order.tenant,
        route=asked.route,
        prompt_version=asked.prompt_version,
        explain_poor=asked.explain_poor,
        priority=asked.priority,
        candidates=asked.candidates,
        expected=expected,
    )


def knows_how_many(part: ReplayPart) -> bool:
    """Whether the selection alone tells how many features there will be; times are looked up in Kafka only."""
    return part.since_ms is None and part.until_ms is None


def is_within(part: ReplayPart, timestamp_ms: int) -> bool:
    """Whether a record was published in the period asked for."""
    return (part.since_ms is None or timestamp_ms >= part.since_ms) and (part.until_ms is None or timestamp_ms < part.until_ms)


def default_replay_id(find_job_id: str, tenant: str, now: datetime) -> str:
    """Name a replay by its find job and the moment it was ordered, `now` in UTC."""
    return f"{default_explain_job_id(find_job_id, tenant)}_replay_{now:%Y%m%d_%H%M%S}"


@dataclass(slots=True)
class Tally:
    """What became of the wanted features."""

    wanted: int
    copied: int = 0
    earlier: int = 0
    """Copied before a restart."""
    outside: int = 0
    """Published outside the period that was asked for."""
    expired: int = 0
    """Below the start of the log: retention took them."""
    strangers: int = 0
    """Another record stands where the feature should be."""
    refused: int = 0
    """Larger than the topic of replays takes."""

    @property
    def sent(self) -> int:
        """How many features the new job has."""
        return self.copied + self.earlier

    @property
    def absent(self) -> int:
        """Neither there nor known to have expired: the topic was cut or made again."""
        return self.wanted - self.sent - self.outside - self.expired - self.strangers - self.refused


def notes_of(tally: Tally, selection: Selection) -> list[str]:
    """Say for people what was asked for and not sent, and what to do about it."""
    notes = []
    advice = "replay with --from-file and the file that Find wrote to have them"
    if tally.expired:
        notes.append(f"{tally.expired} of {tally.wanted} features are no longer in Kafka, because retention took them; {advice}")
    if tally.strangers or tally.absent:
        gone = tally.strangers + tally.absent
        notes.append(f"{gone} of {tally.wanted} features do not stand where they were read from: the topic was deleted, cut or made again; {advice}")
    if tally.refused:
        notes.append(f"{tally.refused} features are larger than the topic of replays takes; compare limits with `mistudio-explain topics check`")
    if selection.unlocated:
        count = len(selection.unlocated)
        notes.append(f"nothing says where {count} {'feature stands' if count == 1 else 'features stand'}: {listed(selection.unlocated)}; {advice}")
    return notes


def listed(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(list(names)[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


@dataclass(frozen=True, slots=True)
class Order:
    """A replay that somebody ordered."""

    event: JobEvent
    part: ReplayPart
    request: RequestPart
    offset: int
    """Where its replay part stands in the topic of jobs."""


class Orders:
    """The replays that the topic of jobs tells of, read from its beginning."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[JobEvent, int]] = {}

    def take(self, key: str, event: JobEvent | None, offset: int) -> None:
        """Note what stands under a key; None takes it back."""
        if event is None:
            self._parts.pop(key, None)
        else:
            self._parts[key] = (event, offset)

    def open(self) -> Iterator[Order]:
        """Those to be run, in the order in which they were given; one whose request is not there yet waits."""
        ordered = [(offset, event) for event, offset in self._parts.values() if event.replay is not None and not event.replay.from_file]
        for offset, event in sorted(ordered, key=lambda found: found[0]):
            request = self._parts.get(f"{event.explain_job_id}|request")
            if event.replay is None or request is None or request[0].request is None:
                continue
            if not self._is_sealed(event) and not self.is_cancelled(event):
                yield Order(event, event.replay, request[0].request, offset)

    def is_cancelled(self, event: JobEvent) -> bool:
        """Whether a person took the order back."""
        found = self._parts.get(f"{event.explain_job_id}|control")
        return found is not None and found[0].control is not None and found[0].control.action != "reopen" and found[0].revision >= event.revision

    def _is_sealed(self, event: JobEvent) -> bool:
        found = self._parts.get(f"{event.explain_job_id}|sealed")
        return found is not None and found[0].revision >= event.revision
