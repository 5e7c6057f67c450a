"""What is an answer, and what is not."""

import json
import time
from contextlib import suppress

import pytest

from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.events.explanation import Message, Prompt
from mistudio_explain.generation.stage import LONGEST_RETURNED, by_rule, parse, repair_messages
from mistudio_explain.generation.unusable import Echoed, Empty, Filtered, Malformed, Refused, ToolCalled, Truncated, WrongLanguage
from mistudio_explain.llm.stream import MAX_ANSWER_CHARACTERS
from unit.generation.asking import TEXTS, prompt

FIELDS = {"label": "dogs and puppies", "pattern": "It fires on dogs.", "significance": "Animals matter.", "implications": "None for safety."}


def test_all_four_fields_are_read() -> None:
    parsed = parse(prompt("fields"), json.dumps(FIELDS), "stop")
    assert parsed.answer.model_dump() == FIELDS
    assert parsed.flags == []
    assert parsed.answer.explanation == "It fires on dogs. Animals matter. None for safety."


def test_a_prefill_and_its_continuation_are_joined() -> None:
    parsed = parse(prompt(prefill="These texts all"), " mention dogs.", "stop")
    assert parsed.answer.pattern == "These texts all mention dogs."
    assert parsed.flags == []


def test_a_prefill_that_the_server_repeats_is_not_doubled() -> None:
    assert parse(prompt(prefill="These texts all"), "These texts all mention dogs.", "stop").answer.pattern == "These texts all mention dogs."


def test_a_server_that_begins_a_turn_of_its_own_is_taken_at_its_word() -> None:
    parsed = parse(prompt(prefill="These texts all"), "Each one mentions dogs.", "stop")
    assert (parsed.answer.pattern, parsed.flags) == ("Each one mentions dogs.", ["prefill_ignored"])


def test_a_prefilled_json_object_is_continued() -> None:
    rest = json.dumps(FIELDS).removeprefix('{"label": "')
    assert parse(prompt("fields", prefill='{"label": "'), rest, "stop").answer.model_dump() == FIELDS


@pytest.mark.parametrize("wrapped", ["```json\n{}\n```", "```\n{}\n```", "Here you are:\n{}", "{}\nI hope this helps!"])
def test_json_in_wrapping_is_read_by_rule_and_flagged(wrapped: str) -> None:
    text = wrapped.replace("{}", json.dumps(FIELDS))
    with pytest.raises(Malformed):
        parse(prompt("fields"), text, "stop")
    parsed = by_rule(prompt("fields"), text, "stop")
    assert parsed.answer.model_dump() == FIELDS
    assert parsed.flags == ["repaired:json"]


def test_minor_fields_that_are_missing_are_left_out_by_rule_and_flagged() -> None:
    text = json.dumps({name: FIELDS[name] for name in ("label", "pattern")})
    parsed = by_rule(prompt("fields"), text, "stop")
    assert (parsed.answer.pattern, parsed.answer.significance) == (FIELDS["pattern"], None)
    assert parsed.flags == ["repaired:fields", "empty:significance", "empty:implications"]


@pytest.mark.parametrize("form", ["fields", "sentence"])
def test_what_is_sent_back_holds_the_answer_and_what_is_wrong_but_no_prefill(form: str) -> None:
    asked = prompt(form, prefill="These texts")
    sent = repair_messages(asked, " mention", "it has no end")
    assert [message.role for message in sent] == ["user", "assistant", "user"]
    assert sent[0] == asked.messages[0]
    assert sent[1].content == "These texts mention"
    assert "it has no end" in sent[2].content
    assert len(repair_messages(asked, "x" * 100_000, "it has no end")[1].content) == LONGEST_RETURNED


def test_an_empty_minor_field_is_absent_and_flagged() -> None:
    parsed = parse(prompt("fields"), json.dumps(FIELDS | {"implications": " "}), "stop")
    assert parsed.answer.implications is None
    assert parsed.flags == ["empty:implications"]


def test_unclear_is_an_answer() -> None:
    assert parse(prompt("fields"), json.dumps(FIELDS | {"label": "unclear", "pattern": "unclear"}), "stop").answer.pattern == "unclear"


@pytest.mark.parametrize(
    "text",
    [
        "Dogs are what these texts share. They also mention cats.",
        'These are about "dogs." The rest is talk.',
        "Dogs are what these texts share.\n\nLet me know if you need more",
    ],
)
def test_only_the_first_sentence_is_taken_and_that_is_flagged(text: str) -> None:
    parsed = parse(prompt(), text, "stop")
    assert parsed.answer.pattern.endswith((".", '."'))
    assert parsed.answer.pattern in text
    assert parsed.flags == ["first_sentence"]


@pytest.mark.parametrize("text", ["Prices such as 3.5 dollars at example.com are named.", "These texts mention e.g. dogs."])
def test_a_dot_inside_a_sentence_does_not_end_it(text: str) -> None:
    assert parse(prompt(), text, "stop").answer.pattern == text


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("length", Truncated), ("load", Truncated), ("unload", Truncated), ("content_filter", Filtered), ("refusal", Refused), ("tool_calls", ToolCalled)],
)
@pytest.mark.parametrize("form", ["fields", "sentence"])
def test_whatever_did_not_stop_by_itself_is_no_answer_even_if_it_reads_well(form: str, reason: str, kind: type[UnusableAnswer]) -> None:
    text = json.dumps(FIELDS) if form == "fields" else "These texts mention dogs."
    with pytest.raises(kind, match=reason):
        parse(prompt(form), text, reason)


@pytest.mark.parametrize("cut", [json.dumps(FIELDS)[:-10], json.dumps(FIELDS)[:-1], json.dumps(FIELDS)[:12], '{"label": "a \\"'])
def test_an_object_that_breaks_off_is_truncated_although_the_server_says_it_stopped(cut: str) -> None:
    with pytest.raises(Truncated):
        parse(prompt("fields"), cut, "stop")


@pytest.mark.parametrize("end", ["the", "such as", "rules, and", "rules,", "dogs ("])
def test_a_pattern_that_ends_within_a_sentence_is_truncated(end: str) -> None:
    with pytest.raises(Truncated):
        parse(prompt("fields"), json.dumps(FIELDS | {"pattern": f"It fires on words for dogs and {end}"}), "stop")


@pytest.mark.parametrize(
    "pattern", ["and", "The conjunction and", "Function words: of, to, for", 'Nouns that follow the word "the"', "What comes after the preposition of"]
)
def test_a_pattern_that_ends_on_the_word_it_names_is_whole(pattern: str) -> None:
    assert parse(prompt("fields"), json.dumps(FIELDS | {"pattern": pattern}), "stop").answer.pattern == pattern


@pytest.mark.parametrize(
    "pattern",
    ["Das Merkmal reagiert auf Wörter, die mit dem Haus zu tun haben.", "Ce sont des mots qui se rapportent à la maison.", "该特征检测与家有关的词语。"],
)
@pytest.mark.parametrize("field", ["pattern", "significance"])
def test_an_answer_in_another_language_is_no_answer(field: str, pattern: str) -> None:
    with pytest.raises(WrongLanguage, match=field):
        parse(prompt("fields"), json.dumps(FIELDS | {field: pattern}), "stop")


@pytest.mark.parametrize(
    "pattern",
    [
        "It fires on the French articles le, la, les, des and du.",
        "The particle 的 between two nouns (我的书, 中国的历史).",
        "def __init__(self, *args, **kwargs)",
        "plural nouns",
        'The phrase «ce qui est» and "il y a des mots dans le texte" in quotations.',
        "Equations with α, β, Σ and ∂.",
    ],
)
def test_an_answer_about_another_language_or_in_no_language_is_an_answer(pattern: str) -> None:
    assert parse(prompt("fields"), json.dumps(FIELDS | {"pattern": pattern}), "stop").answer.pattern == pattern


@pytest.mark.parametrize("text", ["{}", "[]", "null", '""'])
def test_an_empty_value_is_empty(text: str) -> None:
    with pytest.raises(Empty):
        parse(prompt("fields"), text, "stop")


@pytest.mark.parametrize("pattern", ["N/A", "none", "<pattern>", "Not applicable.", "TBD"])
def test_a_pattern_that_only_fills_its_place_is_empty(pattern: str) -> None:
    with pytest.raises(Empty):
        parse(prompt("fields"), json.dumps(FIELDS | {"pattern": pattern}), "stop")


def test_a_quoted_word_is_no_placeholder() -> None:
    assert parse(prompt("fields"), json.dumps(FIELDS | {"pattern": '"null"'}), "stop").answer.pattern == '"null"'


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot do that.",
        "As an AI language model, I have no opinion.",
        "I cannot explain these texts.",
        "I am unable to say.",
        "Unfortunately, I can't answer.",
        "Sorry, that is not possible.",
    ],
)
@pytest.mark.parametrize("form", ["fields", "sentence"])
def test_a_refusal_is_no_answer(form: str, text: str) -> None:
    with pytest.raises(Refused):
        parse(prompt(form), text, "stop")


@pytest.mark.parametrize("field", FIELDS)
def test_a_refusal_in_any_field_is_no_answer(field: str) -> None:
    with pytest.raises(Refused):
        parse(prompt("fields"), json.dumps(FIELDS | {field: "I'm sorry, but I can't help with that."}), "stop")


def test_an_answer_about_refusals_is_an_answer() -> None:
    pattern = "\"I'm sorry, but I can't help with that\" and other refusals of an assistant."
    assert parse(prompt("fields"), json.dumps(FIELDS | {"pattern": pattern}), "stop").answer.pattern == pattern


@pytest.mark.parametrize("text", ["I can see dogs in all of them.", "Sorry states of old dogs are described.", "As an aid to walking, a dog is named."])
def test_a_sentence_that_only_begins_like_a_refusal_is_an_answer(text: str) -> None:
    assert parse(prompt(), text, "stop").answer.pattern == text


@pytest.mark.parametrize("text", ["", "  \n", "...", "."])
@pytest.mark.parametrize("form", ["fields", "sentence"])
def test_no_word_is_no_answer(form: str, text: str) -> None:
    with pytest.raises(Empty):
        parse(prompt(form), text, "stop")


@pytest.mark.parametrize("field", ["label", "pattern"])
def test_an_empty_main_field_is_no_answer(field: str) -> None:
    with pytest.raises(Empty, match=field):
        parse(prompt("fields"), json.dumps(FIELDS | {field: "--"}), "stop")


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(Malformed, match=f"{field!r} is missing"):
        parse(prompt("fields"), json.dumps({name: text for name, text in FIELDS.items() if name != field}), "stop")


@pytest.mark.parametrize(
    "text",
    [
        "These texts mention dogs.",
        '["dogs"]',
        json.dumps(FIELDS | {"pattern": 5}),
        json.dumps(FIELDS | {"pattern": "dogs " * 1000}),
        json.dumps(FIELDS, ensure_ascii=False).replace("dogs.", "d\ufffdgs."),
    ],
)
def test_what_is_not_the_object_asked_for_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse(prompt("fields"), text, "stop")


@pytest.mark.parametrize("text", ["These texts mention", "dogs " * 1000 + ".", "These texts mention d\ufffdgs."])
def test_what_is_not_one_sentence_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse(prompt(), text, "stop")


@pytest.mark.parametrize("text", [TEXTS[0], "In one sentence, say what these texts have in common."])
def test_repeating_the_prompt_is_no_answer(text: str) -> None:
    with pytest.raises(Echoed):
        parse(prompt(), text, "stop")


def test_quoting_a_phrase_of_a_text_is_no_echo() -> None:
    text = 'They describe household animals, as in "barked at the old postman near the gate", and what those animals do all day.'
    assert parse(prompt(), text, "stop").answer.pattern == text


def test_every_unusable_answer_says_what_was_wrong_in_a_line() -> None:
    with pytest.raises(UnusableAnswer) as caught:
        parse(prompt("fields"), "x\n" * 5000, "stop")
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["label", "pattern", "significance", "implications"])
def test_an_answer_that_repeats_the_instructions_in_any_part_is_no_answer(field: str) -> None:
    instructions = "You explain what a feature of a language model detects and you answer with one object."
    messages = [Message(role="system", content=instructions), Message(role="user", content="Explain the feature.")]
    instructed = Prompt(template="general", version="1", sha256="0", answer="fields", messages=messages)
    answer = {"label": "pianos", "pattern": "Music for the piano.", "significance": "None.", "implications": "None."}
    assert parse(instructed, json.dumps(answer), "stop").answer.label == "pianos"
    leaking = answer | {field: f"It says: {instructions} So much for it, and more words of other things that fill it up."}
    with pytest.raises(UnusableAnswer, match="repeats"):
        parse(instructed, json.dumps(leaking), "stop")


@pytest.mark.parametrize("form", ["fields", "sentence"])
@pytest.mark.parametrize("piece", ["```\n", "\n", "'a ", "a", "\u201c", "i can ", "<<", "{", "my a ", ".", '"a', "a,", "de la "])
def test_no_answer_takes_long_to_refuse(form: str, piece: str) -> None:
    text = "It ```\n" + piece * (MAX_ANSWER_CHARACTERS // len(piece))
    began = time.process_time()
    for read in (parse, by_rule):
        with suppress(UnusableAnswer):
            read(prompt(form), text, "stop")
    assert time.process_time() - began < 2  # some 10 ms; what grows with the square of so long a text takes minutes
