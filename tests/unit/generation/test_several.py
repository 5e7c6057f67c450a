"""Several features in one call: one prompt, and each one's own answer."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.events.explanation import Evidence, Message, Prompt
from mistudio_explain.events.feature import Activation
from mistudio_explain.generation.several import common, is_shareable, joined, parted
from mistudio_explain.generation.stage import Parsed

SUBJECTS = ("dogs", "violins", "volcanoes", "taxes", "bread")
TEXTS = {
    "dogs": ("The dogs barked at the postman.", "Two old dogs slept by the fire.", "Stray dogs chased a cat."),
    "violins": ("She tuned the violins.", "Violins carry the second theme.", "He repairs old violins."),
    "volcanoes": ("Volcanoes erupt without warning.", "Ash from volcanoes fell.", "Iceland has many volcanoes."),
    "taxes": ("They raised taxes again.", "Property taxes are due.", "He never paid his taxes."),
    "bread": ("Fresh bread every morning.", "The bread rose slowly.", "A loaf of bread, please."),
}


def prompt(subject: str) -> Prompt:
    shown = "\n".join(f"    {text}" for text in TEXTS[subject])
    messages = [Message(role="system", content="You explain features."), Message(role="user", content=f"BEGIN {subject}\n{shown}\nEND {subject}")]
    return Prompt(template="t", version="1", sha256=subject, messages=messages, answer="fields")


def asked(*subjects: str) -> list[tuple[Prompt, Evidence]]:
    return [(prompt(subject), Evidence(seen=[Activation(text=text) for text in TEXTS[subject]])) for subject in subjects]


def entry(number: int, subject: str, **changes: Any) -> dict[str, Any]:
    return {"number": number, "label": f"About {subject}", "pattern": f"Mentions of {subject}.", "significance": "It knows.", "implications": "None."} | changes


def said(entries: Sequence[Any]) -> str:
    return json.dumps({"answers": entries})


def kinds(found: Sequence[tuple[str, Parsed | UnusableAnswer]]) -> list[str]:
    return [each.kind if isinstance(each, UnusableAnswer) else each.answer.pattern for _, each in found]


def test_the_turns_that_all_have_in_common_come_first_and_unchanged() -> None:
    messages = joined([prompt(subject) for subject in SUBJECTS])
    assert messages[0] == prompt("dogs").messages[0]
    assert len(messages) == 2
    places = [messages[1].content.index(f"Feature {number}\n\nBEGIN {subject}") for number, subject in enumerate(SUBJECTS, 1)]
    assert places == sorted(places)
    assert messages[1].content.rstrip().endswith(", ...]}")


def test_prompts_of_other_forms_and_with_a_prefilled_answer_are_asked_alone() -> None:
    alone = prompt("dogs")
    assert is_shareable(alone)
    assert not is_shareable(alone.model_copy(update={"answer": "sentence"}))
    assert not is_shareable(alone.model_copy(update={"messages": [*alone.messages, Message(role="assistant", content="{")]}))
    assert common(prompt("dogs")) == common(prompt("bread"))


def test_each_feature_gets_the_answer_under_its_number_in_whatever_order_they_come() -> None:
    entries = [entry(number, subject) for number, subject in enumerate(SUBJECTS, 1)]
    found = parted(said(entries[::-1]), "stop", asked(*SUBJECTS))
    assert kinds(found) == [f"Mentions of {subject}." for subject in SUBJECTS]
    assert "number" not in json.loads(found[0][0])


def test_what_is_missing_or_stands_twice_is_missing_alone() -> None:
    entries = [entry(1, "dogs"), entry(2, "violins"), entry(2, "volcanoes"), entry(9, "bread"), entry(4, "taxes"), "noise", entry(True, "bread")]
    entries.remove("noise")
    assert kinds(parted(said(entries), "stop", asked(*SUBJECTS))) == ["Mentions of dogs.", "missing", "missing", "Mentions of taxes.", "missing"]


def test_an_entry_that_is_no_usable_answer_leaves_the_others_alone() -> None:
    entries = [entry(1, "dogs", pattern=""), entry(2, "violins"), entry(3, "volcanoes", label=7), entry(4, "taxes", pattern=TEXTS["taxes"][0])]
    found = kinds(parted(said(entries), "stop", asked(*SUBJECTS[:4])))
    assert found[:3] == ["empty", "Mentions of violins.", "malformed"]


def test_two_answers_that_were_exchanged_are_nobodys() -> None:
    entries = [entry(1, "violins"), entry(2, "dogs"), entry(3, "volcanoes")]
    assert kinds(parted(said(entries), "stop", asked("dogs", "violins", "volcanoes"))) == ["swapped", "swapped", "Mentions of volcanoes."]


def test_answers_that_are_all_off_by_one_are_nobodys() -> None:
    entries = [entry(number, SUBJECTS[number % 5]) for number in range(1, 6)]
    assert kinds(parted(said(entries), "stop", asked(*SUBJECTS))) == ["swapped"] * 5


def test_an_answer_that_was_cut_gives_what_was_complete() -> None:
    whole = said([entry(number, subject) for number, subject in enumerate(SUBJECTS, 1)])
    cut = whole[: whole.index("taxes") + 3]
    found = parted(cut, "length", asked(*SUBJECTS))
    assert kinds(found) == ["Mentions of dogs.", "Mentions of violins.", "Mentions of volcanoes.", "missing", "missing"]
    assert "'length'" in str(found[3][1])


@pytest.mark.parametrize("text", ["", "I'm sorry, no.", "[]", '{"answers": 5}', "[" * 50_000, '{"answers": [{"number": 1}]}', '{"answers": [[{}]]}'])
def test_an_answer_of_another_form_gives_nothing_to_anybody(text: str) -> None:
    assert all(isinstance(each, UnusableAnswer) for _, each in parted(text, "stop", asked("dogs", "bread")))


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_no_text_breaks_it(text: str, finish_reason: str) -> None:
    assert len(parted('{"answers": [' + text, finish_reason, asked("dogs", "bread"))) == 2
