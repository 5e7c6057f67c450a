"""Which lane a request waits in."""

from mistudio_explain.context.lane import lane_for
from mistudio_explain.events.explanation import Evidence, ExplanationRequested, Message, Prompt, Subject
from mistudio_explain.events.feature import JobRequest
from mistudio_explain.events.topics import EXPRESS, PROMPTS_PREFIX, SHARED

FIXED = frozenset({EXPRESS, SHARED})


def lane(model: str = "gpt2", known: frozenset[str] = FIXED, max_lanes: int = 2, **asked: object) -> str:
    request = JobRequest.model_validate({"explain_job_id": "explain_1", **asked})
    prompt = Prompt(template="t", version="1", sha256="0", messages=[Message(role="user", content="?")], answer="fields")
    subject = Subject(explain_job_id="explain_1", target_model=model, feature_key="1")
    event = ExplanationRequested(event_id="e", subject=subject, request=request, complexity="low", evidence=Evidence(seen=[]), prompt=prompt, route=[])
    return lane_for(event, known, express_features=100, max_lanes=max_lanes)


def test_every_target_model_has_a_lane_of_its_own() -> None:
    assert lane("gpt2") == PROMPTS_PREFIX + "gpt2"
    assert lane("other") == PROMPTS_PREFIX + "other"


def test_a_person_who_waits_takes_the_express_lane() -> None:
    assert lane(priority="interactive") == EXPRESS


def test_a_small_job_takes_the_express_lane_and_a_large_or_unknown_one_does_not() -> None:
    assert lane(expected=100) == EXPRESS
    assert lane(expected=101) == PROMPTS_PREFIX + "gpt2"
    assert lane() == PROMPTS_PREFIX + "gpt2"


def test_new_models_share_a_lane_when_there_are_enough_and_old_ones_keep_theirs() -> None:
    known = FIXED | {PROMPTS_PREFIX + "a", PROMPTS_PREFIX + "b"}
    assert lane("c", known) == SHARED
    assert lane("a", known) == PROMPTS_PREFIX + "a"
    assert lane("c", known, max_lanes=3) == PROMPTS_PREFIX + "c"
