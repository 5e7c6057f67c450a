"""A small run in which every promise was kept, in memory: what a test of the checker plants its fault into."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaos.checker import Call, Finding, Found, JobFiles, Poison, Record, check, file_hash
from chaos.inputs import Fate, Key
from chaos.wire import DEAD_LETTERS, EXPLANATIONS, FEATURES, REPORTS, encode

JOB = "explain_chaos-a"
KINDS = ("explained", "explained", "explained", "skipped", "failed")


def key_of(number: int) -> Key:
    return JOB, f"layer/{number}"


def word_of(number: int) -> str:
    return f"zqa{number:05}q"


def outcome_fields(number: int, kind: str, *, revision: int = 0) -> dict[str, Any]:
    job, feature = key_of(number)
    subject = {"explain_job_id": job, "feature_key": feature, "revision": revision}
    if kind != "explained":
        return {"outcome": kind, "reason": "so", "subject": subject}
    made = {"model": "fake", "endpoint": "g1", "provider": "openai", "tokens_in": 100, "tokens_out": 30, "latency_s": 0.1, "finish_reason": "stop"}
    verdict = {"quality_score": 0.5, "pattern_verification": "confirmed", "review_reason": None}
    return {"outcome": kind, "subject": subject, "explanation": f"They carry {word_of(number)}.", "generation": made, **verdict}


def outcome_value(number: int, kind: str, *, revision: int = 0) -> bytes:
    return encode("FeatureOutcome", outcome_fields(number, kind, revision=revision))


def letter_value(source: str, raw: bytes | None, *, about: Key | None = None) -> bytes:
    topic, partition, offset = source.rsplit("/", 2)
    job, feature = about or (None, None)
    fields = {"service": "context", "raw": raw, "error": "MalformedEvent", "message": "bad", "attempts": 1, "at_ms": 1, "headers": {}, "truncated": False}
    named = {"explain_job_id": job, "feature_key": feature, "raw_key": None}
    return encode("DeadLetter", {"source": {"topic": topic, "partition": int(partition), "offset": int(offset)}, **fields, **named})


def report_fields() -> dict[str, Any]:
    return {
        "explain_job_id": JOB,
        "status": "completed",
        "expected": 5,
        "admitted": 5,
        "explained": 3,
        "skipped": 1,
        "failed": 1,
        "flagged": 0,
        "confirmed": 3,
        "averages": {"quality": 0.5},
        "tokens_in": 300,
        "tokens_out": 90,
        "as_of": {"0": 99},
        "artefacts": [{"uri": f"/reports/{JOB}/explanations.csv", "sha256": file_hash(b"table"), "size": 5}],
        "at_ms": 1,
    }


def files() -> JobFiles:
    rows: dict[str, list[dict[str, Any]]] = {"explained": [], "skipped": [], "failed": []}
    for number, kind in enumerate(KINDS):
        rows[kind].append({"feature_key": key_of(number)[1], "explanation": f"They carry {word_of(number)}."})
    content = {
        "job_metadata": {"explained": 3, "skipped": 1, "failed": 1},
        "explanations": rows["explained"],
        "skipped": rows["skipped"],
        "failed": rows["failed"],
    }
    return JobFiles(content, [key_of(number)[1] for number in range(5)], {"explanations.csv": file_hash(b"table")})


POISONED = f"{FEATURES}/2/17"


@dataclass
class Run:
    """What there is to look at; `records` are by topic, so that a test can add to one and take from it."""

    records: dict[str, list[tuple[bytes | None, bytes | None]]]
    files: dict[str, JobFiles]
    calls: list[Call]
    poison: dict[str, Poison]
    fates: Mapping[Key, Fate]

    def findings(self) -> list[Finding]:
        rows = [Record(topic, 0, offset, *row) for topic, rows in self.records.items() for offset, row in enumerate(rows)]
        return check(self.fates, self.poison, Found(rows, self.files, self.calls))

    def kinds(self) -> set[str]:
        return {finding.kind for finding in self.findings()}


def honest_run() -> Run:
    outcomes: list[tuple[bytes | None, bytes | None]] = [("|".join(key_of(n)).encode(), outcome_value(n, kind)) for n, kind in enumerate(KINDS)]
    failed = f"{FEATURES}/0/4"
    return Run(
        {
            EXPLANATIONS: outcomes,
            REPORTS: [(JOB.encode(), encode("JobReport", report_fields()))],
            DEAD_LETTERS: [(POISONED.encode(), letter_value(POISONED, b"junk")), (failed.encode(), letter_value(failed, b"raw", about=key_of(4)))],
        },
        {JOB: files()},
        [Call(float(n), n + 0.1, "g1", word_of(n), "answered") for n, kind in enumerate(KINDS) if kind == "explained"],
        {POISONED: Poison("bad Avro", b"junk", must_die=True)},
        {key_of(n): Fate(kind, word_of(n)) for n, kind in enumerate(KINDS)},
    )
