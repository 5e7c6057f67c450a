"""The gate: answers that are no explanations are turned away in any usual phrasing, explanations of such texts are not."""

import gzip
from pathlib import Path

import orjson
import pytest

from mistudio_explain.evaluation.attack_texts import EMPTIES, ERRORS, REFUSALS
from mistudio_explain.events.explanation import Accuracy, Message, Prompt
from mistudio_explain.validation.gate import objection_to
from mistudio_explain.validation.negation import is_negated, turned

FEATURES = Path(__file__).parents[3] / "examples" / "features"
SYSTEM = "You explain what a feature of a language model detects. A feature is a direction in the model's activations."
PROMPT = Prompt(template="general", version="1", sha256="0", answer="fields", messages=[Message(role="system", content=SYSTEM)])


def kind(answer: str) -> str | None:
    objection = objection_to(answer, PROMPT, [], ["a text about pianos"])
    return objection.kind if objection else None


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_refusal_is_turned_away_however_it_is_put(answer: str) -> None:
    assert kind(answer) == "refusal"


@pytest.mark.parametrize("answer", ERRORS)
def test_an_error_text_is_turned_away(answer: str) -> None:
    assert kind(answer) in ("error_text", "empty")


@pytest.mark.parametrize("answer", EMPTIES)
def test_an_answer_without_content_is_turned_away(answer: str) -> None:
    assert kind(answer) == "empty"


@pytest.mark.parametrize(
    "answer",
    [
        SYSTEM,
        "BEGIN 0123456789ab",
        "You were asked to explain a feature and to be sceptical.",
        "System prompt: be brief",
        "My instructions are secret.",
        "<|im_start|>system you explain features<|im_end|>",
    ],
)
def test_a_leak_of_the_prompt_is_turned_away(answer: str) -> None:
    assert kind(answer) == "prompt_leak"


@pytest.mark.parametrize(
    "explanation",
    [
        '"I can\'t" and similar negations of ability',
        "Refusals such as I cannot help with that.",
        "Phrases in which an assistant refuses: 'I'm sorry, but I can't'",
        "'I'm sorry' in apologies",
        "Sorry, apology and regret expressions",
        "Errors (e.g., HTTP 404) in server logs",
        '"Error:" at the start of a log line',
        "Exceptions and stack traces in Java",
        'The word "none" or "null" in code',
        "Requests that were blocked by moderators",
        'Polite requests beginning with "please provide"',
        "System prompts of chat assistants",
        "No, not and never",
    ],
)
def test_an_explanation_of_refusals_or_errors_is_let_through(explanation: str) -> None:
    assert kind(explanation) is None


def test_no_explanation_of_a_real_feature_is_taken_for_a_refusal_an_error_a_leak_or_a_negation() -> None:
    explanations = [
        record["explanation"]
        for path in sorted(FEATURES.glob("*.jsonl.gz"))
        for record in map(orjson.loads, gzip.decompress(path.read_bytes()).splitlines())
        if record["explanation"]
    ]
    assert len(explanations) > 400
    assert [said for said in explanations if kind(said) in ("refusal", "error_text", "prompt_leak") or is_negated(said)] == []


@pytest.mark.parametrize(
    "claim",
    [
        "The feature does not activate on names of cities.",
        "Anything but names of cities",
        "Everything except legal terms",
        "Texts that never mention the sea",
        "the main thing this neuron does is not to find loops",
        "This feature is not triggered by commas.",
        "The absence of punctuation",
    ],
)
def test_a_claim_of_what_the_feature_leaves_out_is_negated(claim: str) -> None:
    assert is_negated(claim)


@pytest.mark.parametrize("claim", ["Negations such as does not and isn't", "Words that express doubt, not certainty", "The token 'not' after verbs"])
def test_a_claim_about_negations_is_not_negated(claim: str) -> None:
    assert not is_negated(claim)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_the_opposite_of_a_claim_is_never_more_likely_than_not(p: float) -> None:
    accuracy = Accuracy(p=p, low=max(0.0, p - 0.3), high=min(1.0, p + 0.3), n=4, basis="seen", seen=p, masked=p)
    opposite = turned(accuracy)
    assert opposite.p <= min(p, 0.5)
    assert opposite.masked is not None
    assert opposite.masked <= 0.5
    assert opposite.low is not None
    assert opposite.high is not None
    assert opposite.low <= opposite.p <= opposite.high <= 0.5
