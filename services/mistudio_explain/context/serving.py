"""The explainers that there are, as routing sees them: from the endpoints that are open, else from the settings.

Those in a cloud are not among them: only a second pass calls them.
"""

from collections.abc import Callable

from mistudio_explain.context.explainers import DEMONSTRATION, Listed, Routing, Server
from mistudio_explain.context.routing import load_routing
from mistudio_explain.llm.demonstration_server import CONTEXT_TOKENS
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import ModelListed
from mistudio_explain.llm.reach import reach_of
from mistudio_explain.settings import EndpointSettings, LlmSettings, Settings

SURE = 0.8
"""So much of what is left of a context is used: the estimate of some texts falls a fifth short (see tokens.py)."""
CHAT_TOKENS = 64
"""For what a server's chat template puts round the turns: 8 tokens a turn with ChatML, 40 in all with Llama 3's header and date."""


def routing_by(settings: Settings, endpoints: Endpoints | None) -> Callable[[], Routing]:
    """What a route comes to, as it stands whenever it is asked. Raises BadSettings for a policy that cannot be used."""
    policy, is_own = load_routing(settings.context.routing), settings.context.routing is not None
    if endpoints is None:
        configured = Routing(policy, tuple(_configured(endpoint, settings.llm) for endpoint in settings.llm.endpoints if reach_of(endpoint) != "cloud"), is_own)
        return lambda: configured
    # of a discovery this process sees the servers that it drives; others have models too
    others = tuple(Server(endpoint.name) for endpoint in settings.llm.endpoints if endpoint.discover is not None)
    return lambda: Routing(policy, (*(_open(endpoint, settings.llm) for endpoint in endpoints.all if not endpoint.is_cloud), *others), is_own)


def _configured(endpoint: EndpointSettings, llm: LlmSettings) -> Server:
    models = None if endpoint.models is None else tuple(_listed(ModelListed(name), None, endpoint.provider, llm) for name in endpoint.models)
    return Server(endpoint.name, models, endpoint.memory_gb, endpoint.provider == DEMONSTRATION)


def _open(endpoint: Endpoint, llm: LlmSettings) -> Server:
    is_unknown = not endpoint.is_known and endpoint.wanted is None
    models = None if is_unknown else tuple(_listed(model, endpoint.memory_of(model.name), endpoint.kind, llm) for model in endpoint.models)
    memory_gb = {each.name: each.memory_gb for each in llm.endpoints}.get(endpoint.name.partition("@")[0])  # a discovered one is called name@address
    return Server(endpoint.name, models, memory_gb, endpoint.kind == DEMONSTRATION)


def _listed(model: ModelListed, needed_bytes: int | None, kind: str, llm: LlmSettings) -> Listed:
    # Ollama is told which context to load a model with
    tokens = {"ollama": llm.context_tokens, DEMONSTRATION: CONTEXT_TOKENS}.get(kind, model.context_tokens)
    needed_gb = None if needed_bytes is None else needed_bytes / 1e9
    return Listed(model.name, needed_gb, None if tokens is None else max(1, int(SURE * (tokens - llm.max_tokens - CHAT_TOKENS))))
