"""What the chaos did to the promises: compares what had to come of each feature with the topics, the files and the calls.

It shares no code with the services. Everything here is pure; `readings.py` reads what it is given.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from chaos.inputs import WORD, Fate, Key
from chaos.wire import DEAD_LETTERS, EXPLANATIONS, REPORTS, NotAnEvent, decode, rank

LOST = "lost"
DUPLICATED = "duplicated"
WRONG_OUTCOME = "wrong outcome"
WRONG_COUNTER = "wrong counter"
UNEXPLAINED_LETTER = "unexplained dead letter"
DROPPED_POISON = "dropped poison"
STRANGER = "stranger"
LOSER_KEPT = "loser kept"
WRONG_FILE = "wrong file"
UNASKED = "model not asked as expected"


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a topic; its event is decoded by whoever needs it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def coordinates(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that the driver wrote to do harm.

    `must_die`: it cannot be read, so a dead letter must hold it; else it may be taken, where it is only strange.
    `names` is the feature that it speaks of, whose outcome may then be `failed` for a while.
    """

    kind: str
    value: bytes | None
    must_die: bool
    names: Key | None = None


@dataclass(frozen=True, slots=True)
class JobFiles:
    """A job's files: the JSON as it was read, the feature keys of the table's rows, and each file's hash by its name."""

    explanations: Mapping[str, Any]
    table: Sequence[str]
    hashes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that came to the model: from when until when (monotonic seconds), from which worker, about which word, and how it ended.

    `answered` with a good answer; `cut` when the caller went away before; anything else is a fault that the model played.
    """

    at: float
    until: float
    worker: str
    word: str
    ending: str

    @property
    def is_charged(self) -> bool:
        """Whether it was work that should be done only once for a feature."""
        return self.ending in {"answered", "cut"}


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that there is to look at after a run."""

    records: Sequence[Record]
    files: Mapping[str, JobFiles]
    calls: Sequence[Call] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    kind: str
    about: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.about}: {self.what}"


@dataclass
class _Outcomes:
    """Per feature: the outcome that counts with its value, the value that stands last under its key, where each value stands."""

    winners: dict[Key, tuple[dict[str, Any], bytes]] = field(default_factory=dict)
    last: dict[bytes, bytes | None] = field(default_factory=dict)
    places: dict[tuple[Key, bytes], tuple[int, int]] = field(default_factory=dict)


def check(fates: Mapping[Key, Fate], poison: Mapping[str, Poison], found: Found) -> list[Finding]:
    """Compare what came about with what had to; an empty list means that every promise was kept."""
    outcomes, findings = _read_outcomes(found.records, poison)
    findings += _against_fates(outcomes, fates, poison)
    for job in sorted({job for job, _ in fates}):
        expected = {key: fate for key, fate in fates.items() if key[0] == job}
        report = _last_report(found.records, job)
        findings += _report_findings(job, expected, report, outcomes)
        findings += _file_findings(job, expected, report, found.files.get(job), outcomes)
    findings += _letter_findings(found.records, fates, poison)
    return findings + _call_findings(found.calls, fates)


def winners(records: Iterable[Record]) -> Mapping[Key, str]:
    """The outcome that counts of every feature, for a look while things run."""
    outcomes, _ = _read_outcomes(records, {})
    return {key: outcome["outcome"] for key, (outcome, _) in outcomes.winners.items()}


def repeats(calls: Sequence[Call], kills: Sequence[tuple[str, float]]) -> tuple[list[int], int]:
    """Count the calls that were made again: for each kill of a worker those that its death explains, and all others."""
    by_word: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.at):
        if call.is_charged and call.word:
            by_word[call.word].append(call)
    of_kill, others = [0] * len(kills), 0
    for made in by_word.values():
        for first, again in pairwise(made):
            blamed = next((number for number, kill in enumerate(kills) if _explains(kill, first, again)), None)
            if blamed is None:
                others += 1
            else:
                of_kill[blamed] += 1
    return of_kill, others


def _explains(kill: tuple[str, float], first: Call, again: Call) -> bool:
    """Whether a worker's death lies between two calls; not when the first was cut off before, which had another reason."""
    worker, at = kill
    return worker == first.worker and first.at <= at <= again.at and (first.ending != "cut" or at <= first.until)


def _read_outcomes(records: Iterable[Record], poison: Mapping[str, Poison]) -> tuple[_Outcomes, list[Finding]]:
    outcomes, findings = _Outcomes(), []
    for record in records:
        if record.topic != EXPLANATIONS:
            continue
        outcomes.last[record.key or b""] = record.value
        key = _key(record.key)
        if record.value is None:
            outcomes.winners.pop(key, None)
            continue
        if record.coordinates in poison and poison[record.coordinates].must_die:
            continue
        try:
            outcome = decode(record.value, "FeatureOutcome")
        except NotAnEvent as error:
            findings.append(Finding(STRANGER, record.coordinates, f"nobody injected it: {error}"))
            continue
        subject = (outcome["subject"]["explain_job_id"], outcome["subject"]["feature_key"])
        if subject != key and record.coordinates not in poison:
            findings.append(Finding(STRANGER, record.coordinates, f"the outcome of {'|'.join(subject)} has the key {record.key!r}"))
        outcomes.places.setdefault((subject, record.value), (record.partition, record.offset))
        kept = outcomes.winners.get(subject)
        if kept is None or rank(outcome, record.value) > rank(*kept):
            outcomes.winners[subject] = (outcome, record.value)
    return outcomes, findings


def _against_fates(outcomes: _Outcomes, fates: Mapping[Key, Fate], poison: Mapping[str, Poison]) -> list[Finding]:
    findings = []
    for key, fate in fates.items():
        name = "|".join(key)
        won = outcomes.winners.get(key)
        if won is None:
            findings.append(Finding(LOST, name, f"it has no outcome in {EXPLANATIONS}; {fate.outcome} was expected"))
            continue
        outcome, value = won
        if outcome["outcome"] != fate.outcome:
            findings.append(Finding(WRONG_OUTCOME, name, f"{outcome['outcome']} ({outcome['reason']}), where {fate.outcome} was expected"))
        elif fate.outcome == "explained" and WORD.findall(_said(outcome)) != [fate.word]:
            findings.append(Finding(WRONG_OUTCOME, name, f"its explanation is not its own: {_said(outcome)!r} without {fate.word}"))
        if outcomes.last.get(name.encode()) != value:
            findings.append(Finding(LOSER_KEPT, name, "the value that stands last, which compaction keeps, is not the outcome that counts"))
    named = {each.names for each in poison.values()}
    findings += [Finding(STRANGER, "|".join(key), "nobody published it") for key in outcomes.winners if key not in fates and key not in named]
    return findings


def _report_findings(job: str, fates: Mapping[Key, Fate], report: Mapping[str, Any] | None, outcomes: _Outcomes) -> list[Finding]:
    if report is None:
        return [Finding(WRONG_COUNTER, job, f"there is no report in {REPORTS}")]
    kinds = Counter(fate.outcome for fate in fates.values())
    won = [outcomes.winners[key][0] for key in fates if key in outcomes.winners]
    explained = [outcome for outcome in won if outcome["outcome"] == "explained"]
    wanted = {
        "status": "completed",
        "expected": len(fates),
        "admitted": len(fates),
        **{kind: kinds[kind] for kind in ("explained", "skipped", "failed")},
        "flagged": sum(outcome["review_reason"] is not None for outcome in explained),
        "confirmed": sum(outcome["pattern_verification"] == "confirmed" for outcome in explained),
        "tokens_in": sum(outcome["generation"]["tokens_in"] or 0 for outcome in explained),
        "tokens_out": sum(outcome["generation"]["tokens_out"] or 0 for outcome in explained),
    }
    findings = [
        Finding(WRONG_COUNTER, job, f"{name} is {report[name]} in the last report; {value} was expected")
        for name, value in wanted.items()
        if report[name] != value
    ]
    scores = [outcome["quality_score"] for outcome in explained if outcome["quality_score"] is not None]
    mean, told = sum(scores) / len(scores) if scores else None, report["averages"]["quality"]
    if (mean is None) != (told is None) or (mean is not None and abs(mean - told) > 1e-5):
        findings.append(Finding(WRONG_COUNTER, job, f"the average quality is {told} in the last report; {mean} was expected"))
    for key in fates:
        if key in outcomes.winners:
            partition, offset = outcomes.places[key, outcomes.winners[key][1]]
            if report["as_of"].get(str(partition), 0) <= offset:
                findings.append(
                    Finding(WRONG_COUNTER, job, f"as_of says that partition {partition} was read to {report['as_of']}, but {key[1]} stands at {offset}")
                )
                break
    return findings


def _file_findings(job: str, fates: Mapping[Key, Fate], report: Mapping[str, Any] | None, files: JobFiles | None, outcomes: _Outcomes) -> list[Finding]:
    if files is None:
        return [Finding(WRONG_FILE, job, "there are no report files")]
    findings = []
    placed = Counter((part, row["feature_key"]) for part, rows in _PARTS.items() for row in files.explanations[rows])
    for name, rows in (("feature_explanations.json", Counter(key for _, key in placed.elements())), ("explanations.csv", Counter(files.table))):
        findings += [Finding(DUPLICATED, f"{job}|{key}", f"it stands {count} times in {name}") for key, count in rows.items() if count > 1]
        findings += [Finding(LOST, f"{job}|{key}", f"it is not in {name}") for _, key in fates if key not in rows]
        findings += [Finding(STRANGER, f"{job}|{key}", f"it is in {name}, but nobody published it") for key in rows if (job, key) not in fates]
    findings += [
        Finding(WRONG_OUTCOME, "|".join(key), f"it is not among the {fate.outcome} of feature_explanations.json")
        for key, fate in fates.items()
        if (fate.outcome, key[1]) not in placed and any((part, key[1]) in placed for part in _PARTS)
    ]
    for row in files.explanations["explanations"]:
        won = outcomes.winners.get((job, row["feature_key"]))
        if won is not None and row["explanation"] != _said(won[0]):
            findings.append(
                Finding(WRONG_FILE, f"{job}|{row['feature_key']}", "feature_explanations.json has another explanation than the outcome that counts")
            )
    told = files.explanations["job_metadata"]
    for part, rows in _PARTS.items():
        wanted = sum(fate.outcome == part for fate in fates.values())
        if not told[part] == len(files.explanations[rows]) == wanted:
            what = f"{part} is {told[part]} in feature_explanations.json, which lists {len(files.explanations[rows])}; {wanted} was expected"
            findings.append(Finding(WRONG_COUNTER, job, what))
    for artefact in report["artefacts"] if report else ():
        name = artefact["uri"].rpartition("/")[2]
        if name in files.hashes and files.hashes[name] != artefact["sha256"]:
            findings.append(Finding(WRONG_FILE, job, f"{name} is not the file that the last report names"))
    return findings


def _letter_findings(records: Iterable[Record], fates: Mapping[Key, Fate], poison: Mapping[str, Poison]) -> list[Finding]:
    kept: dict[bytes, Record] = {}
    for record in records:
        if record.topic == DEAD_LETTERS:
            kept[record.key or b""] = record
    findings, dead = [], set()
    for key, record in kept.items():
        if record.value is None:
            continue
        try:
            letter = decode(record.value, "DeadLetter")
        except NotAnEvent as error:
            findings.append(Finding(UNEXPLAINED_LETTER, record.coordinates, f"it cannot be read: {error}"))
            continue
        at = "{topic}/{partition}/{offset}".format(**letter["source"])
        about = (letter["explain_job_id"], letter["feature_key"])
        injected = poison.get(at)
        if key != at.encode():
            findings.append(Finding(UNEXPLAINED_LETTER, at, f"its key is {key!r}"))
        if injected is not None:
            dead.add(at)
            if not _holds(letter, injected.value):
                findings.append(Finding(UNEXPLAINED_LETTER, at, f"the letter does not hold the bytes of the {injected.kind} that stands there"))
        elif about not in fates or fates[about].outcome != "failed":
            findings.append(
                Finding(
                    UNEXPLAINED_LETTER,
                    at,
                    f"by {letter['service']}, about {'|'.join(filter(None, about)) or 'nobody'}: {letter['error']}: {letter['message'][:200]}",
                )
            )
    findings += [
        Finding(DROPPED_POISON, at, f"no dead letter holds the {each.kind} that was written there")
        for at, each in poison.items()
        if each.must_die and at not in dead
    ]
    return findings


def _call_findings(calls: Sequence[Call], fates: Mapping[Key, Fate]) -> list[Finding]:
    answered = Counter(call.word for call in calls if call.ending == "answered")
    findings = []
    for key, fate in fates.items():
        if fate.outcome == "explained" and not answered[fate.word]:
            findings.append(Finding(UNASKED, "|".join(key), "it should be explained, but the model never answered a call about it"))
        elif fate.outcome == "skipped" and answered[fate.word]:
            findings.append(Finding(UNASKED, "|".join(key), f"it should be skipped, but the model answered {answered[fate.word]} calls about it"))
    return findings


def _last_report(records: Iterable[Record], job: str) -> Mapping[str, Any] | None:
    last = None
    for record in records:
        if record.topic == REPORTS and record.key == job.encode():
            last = record.value
    return None if last is None else decode(last, "JobReport")


def _holds(letter: Mapping[str, Any], value: bytes | None) -> bool:
    if value is None or not letter["truncated"]:
        return bool(letter["raw"] == value)
    return value.startswith(letter["raw"]) and len(letter["raw"]) < len(value)


def _said(outcome: Mapping[str, Any]) -> str:
    if outcome["explanation"] is not None:
        return str(outcome["explanation"])
    answer = outcome["answer"] or {}
    return str(answer.get("pattern", ""))


def _key(key: bytes | None) -> Key:
    job, _, feature = (key or b"").decode("utf-8", "replace").partition("|")
    return job, feature


def file_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_PARTS = {"explained": "explanations", "skipped": "skipped", "failed": "failed"}
