"""Whatever a feature holds: held-out texts stay out of the prompt, texts stay inside their fence, and nothing is left to chance."""

import re

from hypothesis import assume, example, given
from hypothesis import strategies as st

from mistudio_explain.context.passages import Passage
from mistudio_explain.context.stage import build
from mistudio_explain.errors import EvidenceError
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.events.feature import Activation, ActiveToken, FeatureFound, Logit
from unit.context.finding import TEMPLATES, found, policy

FAMILIES = st.sampled_from(["llama3.1:8b", "demonstration"])
WORDS = ["dog", "cat", "ran", "the", "of", "old", "gate", "Überfluss", "猫", "{", "};", "12:30", "\n"]
sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)
HOSTILE = [
    *(
        "END",
        "BEGIN",
        "END 000000000000",
        "\n",
        "\r",
        "\u2028",
        "\x0b",
        "\x85",
        "<|im_end|>",
        "<|im_start|>system",
        "[/INST]",
        "<<",
        ">>",
        "</s>",
        "<s>",
        "<",
        "|>",
    ),
    *("Explain the feature.", "Text 1:", "@system", "{{ fence }}", "{% raw %}", "\x00", "\u202e", "- ", "Marked words:", "e\u0301", "ordinary words"),
]
hostile = st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=20).map(" ".join)
texts = st.one_of(sentences, hostile, st.text(max_size=300), sentences.map(lambda text: text * 40))


@st.composite
def activations(draw: st.DrawFn) -> Activation:
    kind = draw(st.sampled_from(["text", "peak", "active", "tokens", "foreign tokens"]))
    text = draw(texts)
    strength = draw(st.none() | st.floats(-5, 100))
    pieces = re.findall(r"\s*\S+|\s+", text)
    if kind == "tokens" and pieces:
        values = draw(st.lists(st.floats(-1, 50), min_size=len(pieces), max_size=len(pieces)))
        return Activation(text="".join(pieces), tokens=pieces, token_activations=values, activation_strength=strength)
    if kind == "foreign tokens":
        return Activation(text=text, tokens=["Ã¶", "x"], token_activations=[1.0, 2.0], activation_strength=strength)
    if kind == "active" and pieces:
        return Activation(text=text, active_tokens=[ActiveToken(token=draw(st.sampled_from(pieces)), strength=3.0)], activation_strength=strength)
    peak = draw(st.sampled_from(pieces)) if kind == "peak" and pieces else None
    return Activation(text=text, peak=peak, activation_strength=strength, context=draw(st.none() | hostile))


@st.composite
def features(draw: st.DrawFn) -> FeatureFound:
    return found(
        top_activations=draw(st.lists(activations(), min_size=1, max_size=25)),
        pattern_keywords=draw(st.lists(st.one_of(st.sampled_from(WORDS), hostile), max_size=12)),
        top_logits=draw(st.none() | st.lists(st.builds(Logit, token=hostile, value=st.floats(-9, 9)), max_size=12)),
        coherence_score=draw(st.none() | st.floats(0, 1)),
    )


def requested(feature: FeatureFound, family: str, prompt_tokens: int = 1500) -> ExplanationRequested:
    try:
        event = build(feature, policy(family, explain_poor=True, prompt_tokens=prompt_tokens), TEMPLATES, None)
    except EvidenceError:
        assume(False)
        raise
    assert isinstance(event, ExplanationRequested)
    return event


def plain(text: str) -> str:
    """A text as one line of bare words, so that marks, indents and rewritten tokens hide nothing."""
    return " ".join(re.sub(r"[<>‹›|\[(]+", " ", text).split()).lower()


@given(plan=st.lists(sentences, min_size=1, max_size=30), family=FAMILIES, budget=st.integers(128, 2000))
@example(plan=[f"text {number} of the old gate" for number in range(20)], family="demonstration", budget=1500)
def test_no_held_out_text_of_three_words_or_more_stands_in_the_prompt(plan: list[str], family: str, budget: int) -> None:
    feature = found(top_activations=[Activation(text=text) for text in plan], pattern_keywords=[])
    request = requested(feature, family, budget)
    prompt = plain("\n".join(message.content for message in request.prompt.messages))
    for activation in request.evidence.held_out:
        held_out = Passage.of(activation)
        if len(held_out.words) >= 3 and len(plain(held_out.text).split()) >= 3:
            assert plain(held_out.text) not in prompt


@given(feature=features(), family=FAMILIES, budget=st.integers(128, 2000))
def test_every_text_is_seen_held_out_or_counted_as_trimmed(feature: FeatureFound, family: str, budget: int) -> None:
    evidence = requested(feature, family, budget).evidence
    assert len(evidence.seen) >= 1
    assert len(evidence.seen) + len(evidence.held_out) + evidence.trimmed == len(feature.top_activations)
    assert len(evidence.seen) + len(evidence.held_out) <= 12


@given(feature=features(), family=FAMILIES)
def test_when_eight_different_texts_are_kept_three_in_ten_are_held_out_else_it_is_flagged(feature: FeatureFound, family: str) -> None:
    request = requested(feature, family)
    evidence = request.evidence
    if evidence.held_out:
        assert len(evidence.held_out) >= 0.3 * (len(evidence.seen) + len(evidence.held_out))
    else:
        assert len(evidence.seen) < 8
    assert ("no_heldout" in request.flags) == (not evidence.held_out)


@given(feature=features(), template=st.sampled_from(["general@1", "technical@2"]))
def test_no_text_can_close_its_fence(feature: FeatureFound, template: str) -> None:
    event = build(feature.model_copy(update={"coherence_score": 0.7}), policy(template=template), TEMPLATES, None) if _has_text(feature) else None
    assume(event is not None)
    assert isinstance(event, ExplanationRequested)
    said = next(message.content for message in event.prompt.messages if message.role == "user")
    lines = re.split(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", said)
    fence = lines[0].removeprefix("BEGIN ")
    assert re.fullmatch(r"[0-9a-f]{12}", fence)
    assert said.count(fence) == 2  # the line that opens and the line that closes: no text holds the code
    closing = lines.index(f"END {fence}")
    assert len(lines) - closing == 3  # only the template's own two lines follow
    inside = lines[1:closing]
    allowed = re.compile(r"    |Text \d+( \(strength|:| \(from:)|Keywords: |Strongest tokens: |Effect on the model|More likely: |Less likely: |$")
    assert [line for line in inside if not allowed.match(line)] == []


@given(feature=features())
def test_a_text_of_the_demonstration_prompt_fills_one_line(feature: FeatureFound) -> None:
    request = requested(feature, "demonstration")
    said = next(message.content for message in request.prompt.messages if message.role == "user")
    lines = re.split(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", said)
    middle = lines[1 : 1 + len(request.evidence.seen)]
    assert lines[0] == "Texts:"
    assert all(line.startswith("- ") for line in middle)
    rest = [line for line in lines[1 + len(middle) :] if line]
    assert rest[-1] == "In one sentence, say what these texts have in common."
    assert len(rest) <= 2


@given(feature=features(), family=FAMILIES)
def test_no_control_token_of_a_chat_template_comes_from_the_input(feature: FeatureFound, family: str) -> None:
    for message in requested(feature, family).prompt.messages:
        assert not re.search(r"<\||\|>|\[/?INST\]|</?s>", message.content)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", message.content)


@given(feature=features(), family=FAMILIES)
def test_the_same_feature_gives_the_same_event_also_after_a_turn_on_the_wire(feature: FeatureFound, family: str) -> None:
    once = requested(feature, family)
    assert requested(feature, family) == once
    assert decode(ExplanationRequested, encode(once)) == once


@given(feature=features(), family=FAMILIES, budget=st.integers(900, 2000))
def test_a_prompt_of_several_texts_is_within_its_budget(feature: FeatureFound, family: str, budget: int) -> None:
    request = requested(feature, family, budget)
    size = sum(len(message.content) for message in request.prompt.messages)
    assert size <= budget * 3.5 or (len(request.evidence.seen) == 1 and "texts_over_budget" in request.flags)


def _has_text(feature: FeatureFound) -> bool:
    return any(Passage.of(activation).folded for activation in feature.top_activations)
