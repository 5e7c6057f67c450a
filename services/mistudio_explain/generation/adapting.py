"""What a request becomes before it is asked again: a later delivery, and a prompt that was too long for the model."""

from collections.abc import Callable

from mistudio_explain.context.evidence import TRIMMED
from mistudio_explain.context.prompt import Templates, rendered_again
from mistudio_explain.context.tokens import estimated_tokens
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.events.identity import means_model
from mistudio_explain.settings import ContextSettings

SHORTENED = "prompt_shortened"

Shorten = Callable[[ExplanationRequested], ExplanationRequested | None]


def shortening(context: ContextSettings) -> Shorten:
    """What shortens prompts that context made with these settings. Raises BadSettings for a template that cannot be used."""
    templates = Templates.load(context.templates)
    return lambda request: shortened(request, templates, context.audience)


def for_delivery(request: ExplanationRequested) -> ExplanationRequested:
    """The request as its delivery asks it: each begins with the next model of the route, for the one before gave no usable answer."""
    first = request.attempt % len(request.route) if request.route else 0
    return request.model_copy(update={"route": [*request.route[first:], *request.route[:first]]}) if first else request


def shortened(request: ExplanationRequested, templates: Templates, audience: str | None) -> ExplanationRequested | None:
    """The request with a prompt half as long, as far as one text allows, and flags that say so; None when it cannot get shorter.

    Texts are cut before the weakest are left out. The template may not be known here, when context has others.
    """
    template = templates.known.get(f"{request.prompt.template}@{request.prompt.version}")
    if template is None:
        return None
    tokens = sum(estimated_tokens(message.content) for message in request.prompt.messages)
    rendered = rendered_again(request.subject, request.evidence, template, int(tokens / 2), audience=audience)
    if rendered.prompt.sha256 == request.prompt.sha256:
        return None
    before = sum(int(flag.removeprefix(TRIMMED)) for flag in request.flags if flag.startswith(TRIMMED))
    left_out = before + len(request.evidence.seen) - len(rendered.split.seen)
    flags = [*(flag for flag in request.flags if not flag.startswith(TRIMMED)), *([f"{TRIMMED}{left_out}"] if left_out else []), SHORTENED]
    return request.model_copy(update={"prompt": rendered.prompt, "evidence": rendered.split.evidence(), "flags": flags})


def substitute_flags(request: ExplanationRequested, model: str) -> list[str]:
    """`substitute:` and the model that answered, when it is not the one that the request would have asked first."""
    wanted = request.wanted or next(iter(request.route), None)
    return [] if wanted is None or means_model(wanted, model) else [f"substitute:{model}"]
