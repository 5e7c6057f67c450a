"""A call to a model as a span, under the names of OpenTelemetry's semantic conventions for generative AI (1.41), and no word of prompt or answer."""

from urllib.parse import urlsplit

from mistudio_explain.llm.placement import Choice
from mistudio_explain.llm.provider import Call, Completion
from mistudio_explain.observability import tracing

_KNOWN_ENDS = frozenset({"stop", "length", "refusal", "content_filter", "tool_calls"})


async def traced(choice: Choice, call: Call) -> Completion:
    """Send a call to the chosen endpoint, as a span of the trace at hand. Raises a CallFailure."""
    with tracing.span(f"chat {choice.model.name}", kind="client", attributes=_asked(choice, call)):
        completion = await choice.endpoint.complete(call)
        tracing.note(_answered(completion))
    return completion


def _asked(choice: Choice, call: Call) -> tracing.Attributes:
    server = urlsplit(choice.endpoint.url)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": choice.endpoint.kind,
        "gen_ai.request.model": choice.model.name,
        "gen_ai.request.max_tokens": call.max_tokens,
        "gen_ai.request.temperature": call.temperature,
        "gen_ai.request.seed": call.seed,
        "server.address": server.hostname,
        "server.port": server.port,
        "mistudio_explain.endpoint": choice.endpoint.name,
        "mistudio_explain.features": call.features,
    }


def _answered(completion: Completion) -> tracing.Attributes:
    reason = completion.finish_reason
    return {
        "gen_ai.response.finish_reasons": [reason if reason in _KNOWN_ENDS else "other"],  # any other is a server's own word
        "gen_ai.usage.input_tokens": completion.tokens_in,
        "gen_ai.usage.output_tokens": completion.tokens_out,
        "gen_ai.usage.cache_read.input_tokens": completion.cached_tokens,
        "mistudio_explain.first_text_s": completion.first_text_s,
    }
