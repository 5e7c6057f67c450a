"""Whatever a model says is an answer with words or a named refusal of it, never anything else."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.generation.stage import LONGEST_FIELD, parse
from unit.generation.asking import prompt

forms = st.sampled_from(["fields", "sentence"])
prefills = st.sampled_from([None, "These texts all", '{"label": "'])
words = st.lists(st.from_regex(r"[a-z]{5,12}", fullmatch=True), min_size=1, max_size=8).map(" ".join)  # shorter ones may be function words
answers = st.fixed_dictionaries(dict.fromkeys(("label", "pattern", "significance", "implications"), words))


@given(form=forms, prefill=prefills, text=st.text(), reason=st.sampled_from(["stop", "length", "", "tool_calls"]))
def test_any_text_gives_an_answer_with_words_or_a_named_reason(form: str, prefill: str | None, text: str, reason: str) -> None:
    try:
        parsed = parse(prompt(form, prefill), text, reason)
    except UnusableAnswer:
        return
    assert reason == "stop"
    assert re.search(r"\w", parsed.answer.pattern)
    assert len(parsed.answer.pattern) <= LONGEST_FIELD
    assert "\n" not in parsed.answer.pattern


@given(answer=answers, indent=st.sampled_from([None, 2]))
def test_a_well_formed_object_comes_back_as_it_was(answer: dict[str, str], indent: int | None) -> None:
    parsed = parse(prompt("fields"), json.dumps(answer, indent=indent), "stop")
    assert parsed.answer.model_dump() == answer
    assert parsed.flags == []


@given(answer=answers, cut=st.floats(0, 1, exclude_max=True))
def test_no_beginning_of_an_object_passes_for_the_whole(answer: dict[str, str], cut: float) -> None:
    whole = json.dumps(answer)
    with pytest.raises(UnusableAnswer):
        parse(prompt("fields"), whole[: int(len(whole) * cut)], "stop")


@given(sentence=words, rest=words)
def test_a_continued_prefill_is_the_beginning_of_the_sentence(sentence: str, rest: str) -> None:
    parsed = parse(prompt(prefill="Every text"), f" {sentence}. {rest.capitalize()}.", "stop")
    assert parsed.answer.pattern == f"Every text {sentence}."
    assert parsed.flags == ["first_sentence"]
