"""`compare` through the command line and a store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from golden_events import OUTCOME
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind, Verification
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.jobs import Change, open_store

PROGRAM = Path(sys.executable).with_name("mistudio-explain")
CONFIRMED, PARTIAL = Verification.CONFIRMED, Verification.PARTIAL


def outcome(
    job: str, number: int, p: float, verdict: Verification = CONFIRMED, find_job: str = "find_1", model: str = "small", version: int = 21
) -> FeatureOutcome:
    subject = OUTCOME.subject.model_copy(update={"explain_job_id": job, "feature_id": str(number), "feature_key": str(number), "find_job_id": find_job})
    assert OUTCOME.accuracy is not None
    assert OUTCOME.generation is not None
    return OUTCOME.model_copy(
        update={
            "subject": subject,
            "accuracy": OUTCOME.accuracy.model_copy(update={"p": p}),
            "pattern_verification": verdict,
            "explanation": f"What {model} says of {number}.",
            "generation": OUTCOME.generation.model_copy(update={"model": model}),
            "background_version": version,
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> StoreSettings:
    settings = StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")
    outcomes = [
        *(outcome("explain_1", n, 0.5) for n in range(4)),
        *(outcome("explain_1_big", n, 0.75, PARTIAL if n == 3 else CONFIRMED, model="big") for n in range(4)),
        *(outcome("explain_1_early", n, 0.5, version=21 if n else 19) for n in range(4)),
        outcome("explain_2", 1, 0.5, find_job="find_2"),
        FeatureOutcome(outcome=OutcomeKind.SKIPPED, reason="poor", subject=outcome("explain_1", 9, 0).subject),
    ]
    with open_store(settings) as opened:
        opened.apply([Change(each, encode(each), "", 1) for each in outcomes], {})
    return settings


def compare(store: StoreSettings, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MISTUDIO_EXPLAIN_")}
    environment = clean | {"MISTUDIO_EXPLAIN_STORE__URL": store.url}
    done = subprocess.run([str(PROGRAM), "compare", *arguments], env=environment, text=True, capture_output=True, timeout=60)
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_each_job_is_compared_with_the_first(store: StoreSettings) -> None:
    big, same = json.loads(compare(store, "explain_1", "explain_1_big", "explain_1_early", "--by", "model", "--same-background", "--json").stdout)
    assert (big["first"], big["other"], same["other"]) == ("explain_1", "explain_1_big", "explain_1_early")
    (group,) = big["groups"]
    assert (group["name"], group["n"], group["changed_verdicts"]) == ("small → big", 4, 1)
    assert group["shifts"]["accuracy"] == {"n": 4, "first": 0.5, "other": 0.75, "difference": 0.25, "low": 0.25, "high": 0.25}
    assert big["most_changed"][0]["feature_key"] == "3"
    assert big["most_changed"][0]["other"]["explanation"] == "What big says of 3."
    assert {"first": "skipped", "other": "not in the job", "features": 1} in big["fates"]
    assert (same["left_out"], same["most_changed"]) == (1, [])


def test_a_person_reads_verdicts_scores_cost_and_texts(store: StoreSettings) -> None:
    said = compare(store, "explain_1", "explain_1_big").stdout
    for part in (
        "5 features, 4 explained in both",
        "Verdicts: 1 of 4 changed",
        "+0.250 to +0.250",
        "Time and cost",
        "What small says of 3.",
        "What big says of 3.",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        (("explain_1", "explain_2"), "explain_1 explains features of find_1, explain_2 of find_2"),
        (("explain_1", "explain_1_early"), "1 of the 4 features that both jobs scored were scored against different backgrounds (feature 0: version 21"),
        (("explain_1", "explain_7"), "has no job 'explain_7'; it has explain_"),
        (("explain_1", "explain_1"), "name two or more different jobs"),
        (("explain_1", "explain_1_big", "--by", "size"), "it groups by model, prompt, category"),
    ],
)
def test_what_cannot_be_compared_is_refused(store: StoreSettings, jobs: tuple[str, ...], said: str) -> None:
    assert said in compare(store, *jobs, expect=2).stderr
