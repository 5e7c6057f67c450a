"""The choices that context makes for every feature alike."""

from dataclasses import dataclass

from mistudio_explain.settings import ContextSettings, QualitySettings

DEMONSTRATION = "demonstration"


@dataclass(frozen=True, slots=True)
class ContextPolicy:
    """Which features are explained, how much evidence is kept, and for which family of models prompts are written."""

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
    """Budget of a prompt, in tokens of 3.5 characters."""
    template: str | None
    """Template for all features, as name@version; None: chosen by family and category."""
    family: str
    """What the explainer is: `demonstration`, or a model's name such as `llama3.1:8b`; templates say which they are for."""

    @classmethod
    def of(cls, context: ContextSettings, quality: QualitySettings, family: str) -> "ContextPolicy":
        """Take the choices from the settings, and the family from what is known of the explainer."""
        return cls(
            threshold=quality.threshold,
            explain_poor=quality.explain_poor,
            max_texts=context.max_texts,
            held_out_share=context.held_out_share,
            held_out_from=context.held_out_from,
            prompt_tokens=context.prompt_tokens,
            template=context.template,
            family=family,
        )
