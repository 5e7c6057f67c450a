"""Which explainer models a feature asks for."""

from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.events.explanation import Complexity, Tier
from mistudio_explain.events.feature import FeatureFound


def route_for(feature: FeatureFound, complexity: Complexity, tier: Tier, policy: ContextPolicy) -> list[str]:  # noqa: ARG001  (what a routing policy decides by)
    """Models in order of preference; empty: any that an endpoint has. A request's own route is the only one."""
    route = feature.effective_request.route
    return [] if route is None else [route]
