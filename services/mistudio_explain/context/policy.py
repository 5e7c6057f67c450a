"""The choices that context makes for every feature alike."""

from dataclasses import dataclass

from mistudio_explain.context.explainers import Route, Routing
from mistudio_explain.settings import ContextSettings, QualitySettings


@dataclass(frozen=True, slots=True)
class ContextPolicy:
    """Which features are explained, how much evidence is kept, and which explainers are asked, with which prompts."""

    threshold: float
    """Coherence from which a feature is explained."""
    explain_poor: bool
    """Whether features below the threshold are explained too; a feature's request may say otherwise."""
    max_texts: int
    """Texts kept as evidence, seen and held out together."""
    held_out_share: float
    """Least share of the texts kept from the prompt."""
    held_out_from: int
    """Fewer texts than this are all shown."""
    prompt_tokens: int
    """Budget of a prompt, in tokens as they are estimated."""
    template: str | None
    """Template for all features, as name@version; None: chosen by family and category."""
    audience: str | None
    """For whom explanations are written; None: as each template says."""
    routing: Routing
    """Which explainers a feature asks for."""

    @classmethod
    def of(cls, context: ContextSettings, quality: QualitySettings, routing: Routing) -> "ContextPolicy":
        """Take the choices from the settings."""
        return cls(
            threshold=quality.threshold,
            explain_poor=quality.explain_poor,
            max_texts=context.max_texts,
            held_out_share=context.held_out_share,
            held_out_from=context.held_out_from,
            prompt_tokens=context.prompt_tokens,
            template=context.template,
            audience=context.audience,
            routing=routing,
        )

    def budget(self, route: Route) -> int:
        """The longest prompt for a route, estimated tokens: what is set, or less where a model of the route takes less."""
        return min(self.prompt_tokens, self.routing.prompt_tokens(route.models) or self.prompt_tokens)
