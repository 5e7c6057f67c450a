"""A passage as a prompt shows it: the tokens that fire marked, their strengths from 0 to 10."""

import re
from collections.abc import Iterable
from itertools import accumulate

from mistudio_explain.context.cleaning import neutral
from mistudio_explain.context.passages import Passage
from mistudio_explain.context.windows import bounds, is_joined, peak_offset
from mistudio_explain.events.feature import Activation

MARKED_FROM = 3  # of 10; weaker tokens are noise at the foot of the peak
STRENGTHS_LISTED = 5
LONGEST_CUT = 20  # characters that a window gives up in order not to cut a word
_OPENING = re.compile("<(?=<)")
_CLOSING = re.compile(">(?=>)")
Span = tuple[int, int, float | None]
"""Start and end of a firing token in the text, and the activation where it is known."""


def strongest(passages: Iterable[Passage]) -> float | None:
    """The greatest activation of any token of the passages: what counts as 10."""
    values = [value for passage in passages for _, _, value in spans(passage.activation) if value is not None]
    return max(values, default=None)


def spans(activation: Activation) -> list[Span]:
    """Where in its text the feature fires, as far as the source tells."""
    if activation.tokens and activation.token_activations and is_joined(activation):
        starts = accumulate(map(len, activation.tokens), initial=0)
        return [
            (start, start + len(token), value)
            for start, token, value in zip(starts, activation.tokens, activation.token_activations, strict=False)
            if value > 0 and token.strip()
        ]
    if activation.active_tokens:
        return _in_order(activation)
    at = peak_offset(activation)
    return [] if at is None or not activation.peak else [(at, at + len(activation.peak), activation.activation_strength)]


def shown(passage: Passage, longest: int, ten: float | None) -> tuple[str, list[tuple[str, int | None]]]:
    """The part of the passage that a prompt shows, and its strongest tokens with their strengths where these are known.

    At most `longest` characters of text round the peak, marks not counted; control tokens of chat templates are
    rewritten. A `<<` of the text itself becomes `‹<`, a `>>` `›>`, so that it is no mark.
    """
    activation = passage.activation
    start, end = _at_spaces(activation.text, *bounds(len(activation.text), peak_offset(activation), longest))
    inside = [span for span in spans(activation) if start <= span[0] and span[1] <= end]
    least = min(MARKED_FROM, max((_strength(value, ten) for _, _, value in inside), default=0))  # a weak text's own peak is marked too
    firing = [span for span in inside if _strength(span[2], ten) >= least]
    plain = _plain(activation.text[start:end])
    pieces, at = [], 0
    for first, last, _ in _runs(firing, activation.text):
        pieces += [plain[at : first - start], _marked(plain[first - start : last - start])]
        at = last - start
    pieces.append(plain[at:])
    ranked = sorted(firing, key=lambda span: -_strength(span[2], ten))[:STRENGTHS_LISTED]
    strengths = [(" ".join(plain[first - start : last - start].split()), None if value is None else _strength(value, ten)) for first, last, value in ranked]
    return "".join(pieces), strengths


def _marked(token: str) -> str:
    """A token under its mark, with space inside where the mark would make a control token of it: `<<s>>` holds `<s>`."""
    return f"<<{token}>>" if neutral(f"<{token}>") == f"<{token}>" else f"<< {token} >>"


def _at_spaces(text: str, start: int, end: int) -> tuple[int, int]:
    """The window without words that it cuts, where a space is near."""
    if start > 0:
        start = max(start, text.find(" ", start, start + LONGEST_CUT))
    if end < len(text):
        space = text.rfind(" ", end - LONGEST_CUT, end)
        end = space if space > start else end
    return start, end


def _strength(value: float | None, ten: float | None) -> int:
    """Tenths of the strongest activation; a token that fires by an unknown amount counts as the strongest."""
    return 10 if value is None or not ten else max(0, round(10 * value / ten))


def _in_order(activation: Activation) -> list[Span]:
    """Find the active tokens in the text one after another; the source lists them in the text's order."""
    found: list[Span] = []
    at = 0
    for active in activation.active_tokens or ():
        start = activation.text.find(active.token, at)
        if start >= 0 and active.token.strip():
            at = start + len(active.token)
            found.append((start, at, active.strength))
    return found


def _runs(firing: Iterable[Span], text: str) -> list[Span]:
    """Neighbouring tokens under one mark, leading space outside."""
    runs: list[Span] = []
    for start, end, value in firing:
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], end, value)
        else:
            runs.append((start + len(text[start:end]) - len(text[start:end].lstrip()), end, value))
    return runs


def _plain(text: str) -> str:
    """The text without control tokens and without marks of its own; as long as before, so that places in it stay right."""
    return neutral(_OPENING.sub("‹", _CLOSING.sub("›", text)))
