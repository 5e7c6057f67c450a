"""What a request becomes: another model in a later delivery, a shorter prompt where one was too long, and who answered."""

import pytest

from mistudio_explain.context.evidence import TRIMMED
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.stage import build
from mistudio_explain.context.tokens import estimated_tokens
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.generation.adapting import SHORTENED, for_delivery, shortened, shortening, substitute_flags
from mistudio_explain.llm.failures import ContextTooLong
from mistudio_explain.settings import ContextSettings
from unit.context.finding import ANIMALS, TEMPLATES, found, policy
from unit.generation.asking import requested
from unit.generation.scripted import Model, World

LONG = tuple(" ".join(f"{animal}{place}" for place in range(60)) for animal in ANIMALS[:12])
BURMESE = "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် လည်းကောင်း၊ တူညီလွတ်လပ်သော အခွင့်အရေးများဖြင့် လည်းကောင်း "
ANSWER = '{"label": "dogs", "pattern": "Dogs that barked.", "significance": "It matters.", "implications": "none"}'


def asked(*texts: str, **context: object) -> ExplanationRequested:
    event = build(found(*texts), policy(**context), TEMPLATES, None)  # type: ignore[arg-type]
    assert isinstance(event, ExplanationRequested)
    return event


def tokens(request: ExplanationRequested) -> float:
    return sum(estimated_tokens(message.content) for message in request.prompt.messages)


@pytest.mark.parametrize(("attempt", "first"), [(0, "a"), (1, "b"), (2, "c"), (3, "a")])
def test_each_delivery_begins_with_the_next_model_and_keeps_the_others(attempt: int, first: str) -> None:
    request = for_delivery(requested(route=("a", "b", "c")).model_copy(update={"attempt": attempt}))
    assert request.route[0] == first
    assert sorted(request.route) == ["a", "b", "c"]


def test_a_request_without_a_route_stays_as_it_is_in_every_delivery() -> None:
    request = requested().model_copy(update={"attempt": 2})
    assert for_delivery(request) == request


def test_a_model_other_than_the_one_that_was_wanted_first_is_a_substitute() -> None:
    routed = requested(route=("a", "b"))
    assert substitute_flags(routed, "a") == []
    assert substitute_flags(routed, "a:latest") == []
    assert substitute_flags(routed, "b") == ["substitute:b"]
    assert substitute_flags(routed.model_copy(update={"wanted": "big"}), "a") == ["substitute:a"]
    assert substitute_flags(requested(), "whatever") == []


def test_a_shortened_prompt_has_half_the_tokens_shows_the_strongest_texts_and_says_what_was_left_out() -> None:
    long = asked(*LONG, prompt_tokens=3000)
    shorter = shortened(long, TEMPLATES, None)
    assert shorter is not None
    assert tokens(shorter) <= tokens(long) / 2
    left_out = len(long.evidence.seen) - len(shorter.evidence.seen)
    assert left_out > 0
    assert shorter.evidence.seen == long.evidence.seen[:-left_out]
    assert shorter.evidence.held_out == long.evidence.held_out
    assert shorter.flags == [f"{TRIMMED}{left_out}", SHORTENED]
    assert (shorter.subject, shorter.prompt.template) == (long.subject, long.prompt.template)
    assert shorter.prompt.messages[0] == long.prompt.messages[0]


def test_what_context_left_out_before_is_counted_too() -> None:
    before = asked(*LONG, prompt_tokens=700)
    given = next(int(flag.removeprefix(TRIMMED)) for flag in before.flags if flag.startswith(TRIMMED))
    shorter = shortened(before, TEMPLATES, None)
    assert shorter is not None
    assert [flag for flag in shorter.flags if flag.startswith(TRIMMED)] == [f"{TRIMMED}{given + len(before.evidence.seen) - len(shorter.evidence.seen)}"]


def test_the_audience_and_the_form_stay_when_a_prompt_is_shortened() -> None:
    long = asked(BURMESE * 5, "a " * 200, audience="an executive")
    shorter = shortening(ContextSettings(audience="an executive"))(long)
    assert shorter is not None
    assert "Write for an executive." in shorter.prompt.messages[0].content
    assert shorter.prompt.answer == "fields"


def test_a_prompt_that_cannot_get_shorter_or_whose_template_is_not_known_here_is_left() -> None:
    request = asked("A dog.")
    assert shortened(request, TEMPLATES, None) is None
    assert shortened(request, Templates({}), None) is None


async def test_a_prompt_too_long_for_the_model_is_asked_once_more_with_half_of_it_and_the_draft_says_so() -> None:
    long = asked(*(f"{animal} " * 9 + BURMESE * 6 for animal in ANIMALS[:9]))
    world = World(Model(ContextTooLong("4096 tokens are too many"), ANSWER))
    world.explainer.shorten = shortening(ContextSettings())
    draft = await world.explain_as_is(long)
    first, second = world.model.calls
    assert sum(len(message.content) for message in second.messages) < sum(len(message.content) for message in first.messages)
    assert SHORTENED in draft.flags
    assert (draft.prompt.messages, draft.evidence.seen) == (list(second.messages), long.evidence.seen[: len(draft.evidence.seen)])


async def test_a_prompt_that_stays_too_long_is_given_up_with_the_server_s_reason() -> None:
    world = World(Model(ContextTooLong("4096 tokens are too many")))
    world.explainer.shorten = shortening(ContextSettings())
    given_up = await world.failing(asked(*(f"{animal} " * 9 + BURMESE * 6 for animal in ANIMALS[:9])))
    assert "4096 tokens are too many" in str(given_up)
    assert not given_up.repeatable
    assert len(world.model.calls) == 2
