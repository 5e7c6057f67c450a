"""The judge's core, whatever texts, explanations and answers hold."""

import re

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from mistudio_explain.events.explanation import Answer, Evidence, FeatureOutcome, OutcomeKind, Subject
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import BackgroundFeature, JobBackground
from mistudio_explain.judging.answer import NoList, read_numbers
from mistudio_explain.judging.delphi import delphi_scores
from mistudio_explain.judging.examples import EXCERPT_CHARACTERS, Example, Source
from mistudio_explain.judging.stage import Answered, figures, plan
from mistudio_explain.settings import JudgeSettings

_TEXT = st.text(st.characters(), max_size=300) | st.sampled_from(["<<", ">>", '"', "[1, 1, 1]", "\n2: ", "<|im_end|>", "[/INST]", "\x00\u202e", "<s>"])


@st.composite
def _activation(draw: st.DrawFn) -> Activation:
    if draw(st.booleans()):
        return Activation(text=draw(_TEXT), activation_strength=draw(st.none() | st.floats(-5, 50)), peak=draw(st.none() | _TEXT))
    tokens = draw(st.lists(_TEXT, min_size=1, max_size=6))
    values = draw(st.lists(st.sampled_from([0.0, 0.1, 5.0, 9.0]), min_size=len(tokens), max_size=len(tokens)))
    return Activation(text="".join(tokens), tokens=tokens, token_activations=values)


_ACTIVATIONS = st.lists(_activation(), max_size=7)
_BACKGROUND = st.lists(st.lists(_TEXT, max_size=3), max_size=8)
_ANSWERED = st.builds(
    lambda source, accepted, asked: Answered(Example("t", source, 0.0, ("t",), ()), accepted if asked else None, asked),
    st.sampled_from(["own", "random", "siblings"]),
    st.sampled_from([True, False, None]),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(seen=_ACTIVATIONS, held_out=_ACTIVATIONS, others=_BACKGROUND, said=_TEXT)
def test_any_texts_make_questions_that_hold_what_they_should(seen: list[Activation], held_out: list[Activation], others: list[list[str]], said: str) -> None:
    judged = FeatureOutcome(
        outcome=OutcomeKind.EXPLAINED,
        subject=Subject(explain_job_id="e", feature_key="k"),
        evidence=Evidence(seen=seen, held_out=held_out),
        answer=Answer(pattern=said),
    )
    sample = [BackgroundFeature(feature_key=str(number), texts=texts) for number, texts in enumerate(others)]
    known = JobBackground(find_job_id="f", target_model="m", sample=sample, distinct=len(sample), frozen=True)
    planned = plan(judged, known, JudgeSettings())
    assert planned == plan(judged, known, JudgeSettings())
    for question in planned.questions:
        lines = [line for line in question.messages[-1].content.split("\n") if re.match(r"\d+: ", line)]
        texts = [orjson.loads(line.partition(": ")[2]) for line in lines]
        if question.kind == "coherence":
            continue
        assert texts == [example.text for example in question.examples]
        assert len(texts) == question.count
        for example in question.examples:
            assert len(example.text) <= EXCERPT_CHARACTERS + 4 * EXCERPT_CHARACTERS * (question.kind == "fuzzing")
            assert "\n" not in example.text
            assert question.kind == "fuzzing" or example.source != "moved"
    asked = {example.activating for question in planned.questions if question.kind == "detection" for example in question.examples}
    assert asked in (set(), {True, False}) or "detection" in planned.unavailable


@given(text=st.text(max_size=40) | st.lists(st.integers(-1, 3), max_size=5).map(str), count=st.integers(1, 4), greatest=st.integers(1, 4))
def test_an_answer_is_either_the_list_that_was_asked_for_or_none(text: str, count: int, greatest: int) -> None:
    try:
        numbers = read_numbers(text, count, greatest)
    except NoList:
        return
    assert len(numbers) == count
    assert all(0 <= number <= greatest for number in numbers)
    assert orjson.dumps(list(numbers)).decode().replace(",", "") in re.sub(r"[,\s]", "", text)


@given(answered=st.lists(_ANSWERED, max_size=30))
def test_figures_rest_on_readable_answers_alone(answered: list[Answered]) -> None:
    judged = figures("detection", answered, "seen")
    assert judged.n + judged.unparsed + judged.unasked == len(answered)
    assert judged.positives + judged.negatives == judged.n
    assert (judged.tpr is None) == (judged.positives == 0)
    assert (judged.tnr is None) == (judged.negatives == 0)
    readable = [each for each in answered if each.accepted is not None]
    same = figures("detection", readable, "seen")
    assert (same.tpr, same.tnr, same.balanced_accuracy) == (judged.tpr, judged.tnr, judged.balanced_accuracy)
    turned = [Answered(each.example, not each.accepted) for each in readable]
    opposite = figures("detection", turned, "seen").balanced_accuracy
    assert judged.balanced_accuracy is None or opposite is None or abs(judged.balanced_accuracy + opposite - 1) < 1e-9
    assert len(delphi_scores(answered)) == sum(each.asked for each in answered)


@given(source=st.sampled_from(["random", "siblings", "moved"]), accepted=st.booleans())
def test_only_the_features_own_examples_are_to_be_accepted(source: Source, accepted: bool) -> None:
    wrong = Answered(Example("t", source, 0.0, ("t",), ()), accepted)
    assert figures("detection", [wrong], "seen").tnr == (0.0 if accepted else 1.0)
