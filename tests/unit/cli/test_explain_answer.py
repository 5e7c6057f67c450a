"""What a person sees of one feature's explanation."""

import json
from collections.abc import AsyncIterator

import pytest

from mistudio_explain.cli.answer import Answering
from mistudio_explain.events.explanation import (
    Accuracy,
    Answer,
    Evidence,
    FeatureOutcome,
    Generation,
    OutcomeKind,
    Safety,
    SafetyEvidence,
    Subject,
    TokenChunk,
    Verification,
)
from mistudio_explain.events.feature import Activation
from mistudio_explain.intake.asking import Piece, answer_of

ESCAPE = "\x1b]0;owned\x07\u202e"


def outcome(**changes: object) -> FeatureOutcome:
    made = FeatureOutcome(
        outcome=OutcomeKind.EXPLAINED,
        subject=Subject(explain_job_id="explain_1", find_job_id="find_1", feature_key="5"),
        evidence=Evidence(seen=[Activation(text=f"A dog.{ESCAPE}")] * 6, held_out=[Activation(text="Two dogs.")]),
        answer=Answer(label="Dogs", pattern=f"Mentions of dogs.{ESCAPE}"),
        accuracy=Accuracy(p=0.8, low=0.6, high=0.9, n=7, basis="all", seen=0.85, held_out=0.7),
        pattern_verification=Verification.CONFIRMED,
        safety=Safety(assessment="concerning", categories=["weapons"], evidence=[SafetyEvidence(category="weapons", where="text", index=0, words=[ESCAPE])]),
        generation=Generation(model=f"m{ESCAPE}", endpoint="e", provider="ollama", latency_s=1.5, finish_reason="stop"),
        flags=["one_text"],
        background_version=17,
        background_features=15,
    )
    return made.model_copy(update=changes)


def shown(capsys: pytest.CaptureFixture[str], made: FeatureOutcome, *, as_json: bool = False) -> str:
    Answering(stream=False, as_json=as_json).outcome(made)
    return capsys.readouterr().out


def test_verdict_accuracy_safety_and_texts_are_told_and_nothing_of_them_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(capsys, outcome())
    for part in (
        "feature 5 of find_1",
        "pattern: Mentions of dogs.",
        "confirmed, accuracy 0.80 (0.60 to 0.90) on 7 texts; seen texts 0.85; held-out texts 0.70",
        "15 other features of its find job",
        "safety: concerning (weapons)",
        "weapons in text 1",
        "texts that the model saw: 6",
        "... and 2 more",
        "texts kept from it: 1",
        "flags: one_text",
        "at e in 1.5 s",
    ):
        assert part in told
    assert not {"\x1b", "\x07", "\u202e"} & set(told)


def test_a_feature_without_explanation_is_told_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert "failed: got no usable answer" in shown(capsys, outcome(outcome=OutcomeKind.FAILED, reason="got no usable answer"))


def test_an_accuracy_that_could_not_be_computed_is_absent_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    made = outcome(accuracy=None, pattern_verification=Verification.UNVERIFIABLE, unavailable={"accuracy": "the pattern is unclear"})
    assert "unverifiable: the pattern is unclear" in shown(capsys, made)


def test_json_is_one_line_with_all_of_the_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = shown(capsys, outcome(), as_json=True).splitlines()
    assert json.loads(line) | {"event": "outcome", "outcome": "explained"} == json.loads(line)


async def test_an_answer_that_begins_anew_after_another_try_or_a_kill_is_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    chunks = [(0, 0, "one"), (1, 0, " two"), (2, 1, "three"), (0, 1, "four"), (1, 1, " five")]

    async def events() -> AsyncIterator[TokenChunk | FeatureOutcome]:
        for index, attempt, text in chunks:
            yield TokenChunk(event_id="e", index=index, attempt=attempt, text=text)
        yield outcome()

    answering = Answering(stream=True, as_json=False)
    *pieces, end = [said async for said in answer_of(events())]
    for piece in pieces:
        assert isinstance(piece, Piece)
        await answering.piece(piece.beginning, piece.text)
    assert isinstance(end, FeatureOutcome)
    assert capsys.readouterr().out == "one two\n(the answer begins anew)\nthree\n(the answer begins anew)\nfour five"
