"""The parts of a text that are scored: windows of the size of a background's texts, where the feature fires."""

from mistudio_explain.events.feature import Activation

EXCERPT_CHARACTERS = 200  # as long as a text of a background (JobBackground.sample)
PASSAGES = 3  # of a long text without a known peak; more cost time, fewer miss more
TOKENS_READ = 20_000  # bounds the search for the peak in a monstrous text


def peak_offset(activation: Activation) -> int | None:
    """Where in the text the feature fires most, in characters from its start; None when the source does not tell."""
    if activation.tokens and activation.token_activations:
        tokens, values = activation.tokens[:TOKENS_READ], activation.token_activations[:TOKENS_READ]
        position = values.index(max(values))
        if activation.text.startswith("".join(tokens)):
            return len("".join(tokens[:position]))
        return _found(activation.text, tokens[position])
    if activation.peak:
        return _found(activation.text, activation.peak)
    if activation.active_tokens:
        return _found(activation.text, max(activation.active_tokens[:TOKENS_READ], key=lambda active: active.strength).token)
    return None


def passages(activation: Activation, limit: int = EXCERPT_CHARACTERS) -> list[str]:
    """The parts of a text that are scored, each of at most `limit` characters, the size of a background's texts.

    A short text is one passage; so is a long one with a known peak: the window round it. Without a peak nobody knows
    where the feature fires, so a long text gives PASSAGES windows, evenly from its start to its end. Passages are as
    long as the background's texts because a longer window holds more words that match by chance: scored whole, 3,500
    characters against 200 stand out by a standard deviation for any explanation (docs/validation.md has the
    figures).
    """
    text = activation.text
    if len(text) <= limit:
        return [text]
    peak = peak_offset(activation)
    last = len(text) - limit
    if peak is not None:
        start = min(max(0, peak - limit // 2), last)
        return [text[start : start + limit]]
    return [text[start : start + limit] for start in (last * step // (PASSAGES - 1) for step in range(PASSAGES))]


def _found(text: str, token: str) -> int | None:
    at = text.find(token)
    return None if at < 0 else at
