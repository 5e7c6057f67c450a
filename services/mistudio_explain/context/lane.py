"""Which lane a request waits in."""

from collections.abc import Set

from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.events.identity import lane_name
from mistudio_explain.events.topics import EXPRESS, PROMPTS_PREFIX, SHARED


def lane_for(request: ExplanationRequested, known: Set[str], *, express_features: int, max_lanes: int) -> str:
    """The topic of a request's lane.

    Interactive requests, and jobs that say they have at most `express_features`, take the express lane; every other
    target model has a lane of its own, until there are `max_lanes` of them and new models share one.
    """
    asked = request.request
    if asked.priority == "interactive" or (asked.expected is not None and asked.expected <= express_features):
        return EXPRESS
    own = own_lane(request.subject.target_model or "")
    models = len(known - {EXPRESS, SHARED})
    return own if own in known or models < max_lanes else SHARED


def own_lane(target_model: str) -> str:
    """The topic of a target model's own lane, whether or not it has one."""
    return PROMPTS_PREFIX + lane_name(target_model)
