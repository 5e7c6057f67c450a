"""The part of a text round the place where the feature fires most."""

from itertools import accumulate

from mistudio_explain.context.cleaning import cleaned
from mistudio_explain.events.feature import Activation

TOKENS_READ = 20_000  # bounds the search for the peak in a monstrous text
CLEANED_CHARACTERS = 40_000  # of a longer text, those round its peak: to clean 1 MB of foreign characters takes 0.3 s


def peak_offset(activation: Activation) -> int | None:
    """Where in the text the feature fires most, in characters from its start; None when the source does not tell."""
    if activation.tokens and activation.token_activations:
        values = activation.token_activations[:TOKENS_READ]
        position = max(range(len(values)), key=values.__getitem__)
        if is_joined(activation):
            return sum(map(len, activation.tokens[:position]))
        return _found(activation.text, activation.tokens[position])
    if activation.peak:
        return _found(activation.text, activation.peak)
    if activation.active_tokens:
        return _found(activation.text, max(activation.active_tokens[:TOKENS_READ], key=lambda active: active.strength).token)
    return None


def peak_token(activation: Activation) -> str | None:
    """The token on which the feature fires most, as the source writes it; None when the source does not tell."""
    if activation.peak:
        return activation.peak
    if activation.tokens and activation.token_activations:
        return activation.tokens[max(range(len(activation.token_activations)), key=activation.token_activations.__getitem__)]
    if activation.active_tokens:
        return max(activation.active_tokens, key=lambda active: active.strength).token
    return None


def is_joined(activation: Activation) -> bool:
    """Whether the tokens, written one after another, are the text's beginning; byte-level tokens of other scripts are not."""
    return activation.tokens is not None and activation.text.startswith("".join(activation.tokens))


def bounds(length: int, peak: int | None, longest: int) -> tuple[int, int]:
    """Start and end of the window of at most `longest` characters round `peak`; without a known peak the text's beginning."""
    if length <= longest:
        return 0, length
    start = 0 if peak is None else min(max(0, peak - longest // 2), length - longest)
    return start, start + longest


def window(activation: Activation, longest: int) -> str:
    """The window's text."""
    if len(activation.text) <= longest:
        return activation.text
    start, end = bounds(len(activation.text), peak_offset(activation), longest)
    return activation.text[start:end]


def bounded(activation: Activation, longest: int) -> Activation:
    """A clean text of at most `longest` characters round its peak, its tokens cut to match.

    Tokens that cannot be placed in the text are left out when it is cut. Texts that need nothing are returned as they are.
    """
    activation = _window_of(activation, max(longest, CLEANED_CHARACTERS))
    text = cleaned(activation.text)
    if text != activation.text:
        tokens = None if activation.tokens is None else [cleaned(token) for token in activation.tokens]
        activation = activation.model_copy(update={"text": text, "tokens": tokens})
    return _window_of(activation, longest)


def _window_of(activation: Activation, longest: int) -> Activation:
    text = activation.text
    if len(text) <= longest:
        return activation
    start, end = bounds(len(text), peak_offset(activation), longest)
    if not is_joined(activation):
        return activation.model_copy(update={"text": text[start:end], "tokens": None, "token_activations": None})
    return _cut_at_tokens(activation, start, end)


def _cut_at_tokens(activation: Activation, start: int, end: int) -> Activation:
    assert activation.tokens is not None
    offsets = [0, *accumulate(map(len, activation.tokens))]
    inside = [place for place, offset in enumerate(offsets[:-1]) if start <= offset and offsets[place + 1] <= end]
    if not inside:  # one token fills the window
        return activation.model_copy(update={"text": activation.text[start:end], "tokens": None, "token_activations": None})
    first, last = inside[0], inside[-1] + 1
    values = activation.token_activations
    return activation.model_copy(
        update={
            "text": "".join(activation.tokens[first:last]),
            "tokens": activation.tokens[first:last],
            "token_activations": None if values is None else values[first:last],
        }
    )


def _found(text: str, token: str) -> int | None:
    at = text.find(token)
    return None if at < 0 else at
