"""A feature's texts as reports show them: excerpts, the peak where the source gave it, and examples for miStudioScore."""

from dataclasses import dataclass

from mistudio_explain.events.explanation import Evidence, FeatureOutcome
from mistudio_explain.events.feature import Activation

EXCERPT_CHARACTERS = 360
"""Longest text on a page; the JSON files hold every text whole."""

_BIDI_CONTROLS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_VISIBLE: dict[int, str] = {
    **{code: f"[U+{code:04X}]" for code in (*range(0x20), *range(0x7F, 0xA0), *_BIDI_CONTROLS, 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF)},
    ord("\n"): "↵ ",
    ord("\t"): "⇥ ",
}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A text, cut round its peak; `peak` is empty when the source did not say where in the text it is."""

    before: str
    peak: str
    after: str
    strength: float | None
    context: str | None
    peak_token: str | None


def excerpt(activation: Activation, characters: int = EXCERPT_CHARACTERS) -> Excerpt:
    """Cut a text to so many characters round its peak, with characters that would not show made visible."""
    text = activation.text
    start, end = peak_span(activation) or (0, 0)
    if end - start > characters:
        end = start + characters
    first = max(0, min((start + end - characters) // 2, len(text) - characters))
    last = min(len(text), first + characters)
    token = peak_token(activation)
    return Excerpt(
        before=("… " if first else "") + visible(text[first:start]),
        peak=visible(text[start:end]),
        after=visible(text[end:last]) + (" …" if last < len(text) else ""),
        strength=activation.activation_strength,
        context=None if activation.context is None else visible(activation.context),
        peak_token=None if token is None else visible(token),
    )


def visible(text: str) -> str:
    """Replace control characters and direction overrides by marks that a reader sees."""
    return text if text.isprintable() else text.translate(_VISIBLE)  # nothing printable stands in the table


def peak_token(activation: Activation) -> str | None:
    """The token with the greatest activation, where the source names it or gives every token's activation."""
    if activation.peak is not None:
        return activation.peak
    position = _peak_position(activation)
    return None if position is None or activation.tokens is None else activation.tokens[position]


def peak_span(activation: Activation) -> tuple[int, int] | None:
    """Where the peak stands in the text, as first and past-last character.

    By the tokens where their join contains the text; else where the named token occurs exactly once. None when
    the source leaves open which occurrence it was.
    """
    span = _span_by_tokens(activation)
    if span is not None:
        return span
    token = peak_token(activation)
    if not token or activation.text.count(token) != 1:
        return None
    start = activation.text.index(token)
    return start, start + len(token)


def max_activation(outcome: FeatureOutcome) -> float | None:
    """The feature's greatest activation: of the whole corpus where the source says it, else of the texts; None without either."""
    statistics = outcome.subject.statistics
    if statistics is not None and statistics.max is not None:
        return statistics.max
    return max((a.activation_strength for a in texts(outcome.evidence) if a.activation_strength is not None), default=None)


def top_examples(outcome: FeatureOutcome) -> list[str]:
    """All kept texts, strongest first where the source gives strengths, else those that the explainer saw first."""
    kept = texts(outcome.evidence)
    if all(a.activation_strength is not None for a in kept):
        kept = sorted(kept, key=lambda a: -(a.activation_strength or 0.0))
    return [a.text for a in kept]


def texts(evidence: Evidence | None) -> list[Activation]:
    """All texts, seen first, then held out, as safety evidence counts them."""
    return [] if evidence is None else [*evidence.seen, *evidence.held_out]


def _peak_position(activation: Activation) -> int | None:
    strengths = activation.token_activations
    if not strengths or max(strengths) <= 0:
        return None
    return strengths.index(max(strengths))


def _span_by_tokens(activation: Activation) -> tuple[int, int] | None:
    position = _peak_position(activation)
    if position is None or activation.tokens is None:
        return None
    shift = "".join(activation.tokens).find(activation.text)
    start = len("".join(activation.tokens[:position])) - shift
    end = start + len(activation.tokens[position])
    if shift < 0 or start < 0 or end > len(activation.text):
        return None
    return start, end
