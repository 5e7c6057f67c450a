"""What a route comes to: the endpoints that can serve it, and the model at each."""

from collections.abc import Sequence
from dataclasses import dataclass

from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.provider import ModelListed


@dataclass(frozen=True, slots=True)
class Choice:
    """The endpoint and the model that a route comes to now."""

    endpoint: Endpoint
    model: ModelListed
    since: float = 0.0
    """When the endpoint's slot was taken."""


def options(route: Sequence[str], usable: Sequence[Endpoint], everyone: Sequence[Endpoint]) -> list[Choice]:
    """What may serve a route: the first of its models that a usable endpoint has, wherever it is.

    None while only an endpoint that is out of use has one, or may have one: that one is waited for. When nobody has any,
    the first model of each endpoint stands in, unless it is in a cloud.
    """
    for name in route:
        having = [Choice(endpoint, model) for endpoint in usable if (model := endpoint.model_named(name)) is not None]
        if having:
            return having
    if route and any(endpoint.may_have(name) for name in route for endpoint in everyone):
        return []
    return [Choice(endpoint, endpoint.usable[0]) for endpoint in usable if endpoint.usable and not endpoint.is_cloud]
