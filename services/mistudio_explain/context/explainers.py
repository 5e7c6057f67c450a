"""What a route comes to: the routing policy against the explainers that there are."""

from collections.abc import Iterator
from dataclasses import dataclass

from mistudio_explain.context.routing import Case, ModelNeeds, RoutingPolicy
from mistudio_explain.events.identity import means_model

DEMONSTRATION = "demonstration"


@dataclass(frozen=True, slots=True)
class Listed:
    """A model that a server has; None for what the server does not tell."""

    name: str
    needed_gb: float | None = None
    """What it takes when it is loaded, 10^9 bytes."""
    prompt_tokens: int | None = None
    """The longest prompt that leaves room for an answer in its context."""

    def is_called(self, name: str) -> bool:
        """Whether a route's entry means it."""
        return means_model(name, self.name)


@dataclass(frozen=True, slots=True)
class Server:
    """An LLM endpoint as routing sees it."""

    name: str
    models: tuple[Listed, ...] | None = None
    """In its order; None while nobody knows them."""
    memory_gb: float | None = None
    """Its memory for models; None: not known, and then it holds what it has."""
    is_demonstration: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Models in order of preference; empty: any that an endpoint has."""

    models: tuple[str, ...]
    wanted: str | None = None
    """The model that the policy would ask first, when no endpoint has it or can hold it."""


@dataclass(frozen=True, slots=True)
class Routing:
    """A policy and the servers that there are."""

    policy: RoutingPolicy | None = None
    """None: every feature goes to what there is."""
    servers: tuple[Server, ...] = ()
    is_own: bool = False
    """Whether people gave the policy. The one that comes along says nothing where no server is known to have any of its models:
    then every feature goes to what there is."""

    def route(self, case: Case) -> Route:
        """What a feature asks for: the policy's models without those that no server has or can hold."""
        if self.policy is None or not self._counts:
            return Route(())
        models = self.policy.models_for(case)
        there = tuple(model for model in models if self._missing(model, self.policy.needs(model)) is None)
        return Route(there, wanted=None if there[:1] == models[:1] else models[0])

    def family(self, models: tuple[str, ...]) -> str:
        """What prompts are written for: the model that a route comes to, `demonstration` for the small one, empty when nobody knows."""
        if self.servers and all(server.is_demonstration for server in self.servers):
            return DEMONSTRATION
        if models:
            return models[0]
        return next((model.name for server in self.servers if not server.is_demonstration for model in server.models or ()), "")

    def prompt_tokens(self, models: tuple[str, ...]) -> int | None:
        """The longest prompt that every known model of a route takes at every server; None when nothing is known."""
        asked = (model for server in self.servers for model in server.models or () if not models or any(map(model.is_called, models)))
        return min((model.prompt_tokens for model in asked if model.prompt_tokens is not None), default=None)

    def substitutes(self) -> list[str]:
        """Each model of the policy that no server has or can hold, why, and what is asked instead; for people."""
        return list(dict.fromkeys(self._substitutes(self.policy))) if self.policy is not None and self._counts else []

    @property
    def _counts(self) -> bool:
        named = {model for rule in self.policy.rules for model in rule.models} if self.policy else ()
        return self.is_own or any(model.is_called(name) for server in self.servers for model in server.models or () for name in named)

    def _substitutes(self, policy: RoutingPolicy) -> Iterator[str]:
        anything = self.family(())
        for rule in policy.rules:
            there = [model for model in rule.models if self._missing(model, policy.needs(model)) is None]
            for place, model in enumerate(rule.models):
                if (why := self._missing(model, policy.needs(model))) is not None:
                    instead = f": {there[0] if there else anything or 'whatever an endpoint has'} stands in" if place == 0 else ""
                    yield f"{model} {why}{instead}"

    def _missing(self, name: str, needs: ModelNeeds) -> str | None:
        """Why no server can answer as this model; None when one can, or may."""
        if not self.servers or any(server.models is None for server in self.servers):
            return None
        having = [(server, model) for server in self.servers for model in server.models or () if model.is_called(name)]
        if not having:
            return f"is at no endpoint{needs.arithmetic and f' (it {needs.arithmetic})'}"
        too_small = []
        for server, model in having:
            need = needs.gpu_memory_gb if model.needed_gb is None else model.needed_gb
            if server.memory_gb is None or need is None or need <= server.memory_gb:
                return None
            too_small.append(f"{server.name} has {server.memory_gb:g} GB")
        needed = [model.needed_gb for _, model in having if model.needed_gb is not None]
        return f"{needs.arithmetic or f'needs {min(needed):.1f} GB'}, but {', '.join(too_small)}"
