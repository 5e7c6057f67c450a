"""The words on which a feature fires and those that it promotes, as far as its source tells."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice

from mistudio_explain.events.feature import Activation, Logit

ACTIVE_FROM = 0.3  # of the text's greatest activation: what a prompt marks too
ACTIVE_WORDS = 12  # of one text
PROMOTED_WORDS = 10
_TOKENS_READ = 4_000  # bounds the work on a monstrous text; context keeps 4,000 characters of one
_WORD_CHARACTERS = 40  # a longer word is cut round its token
_SPACE_MARKS = {"Ġ": " ", "▁": " ", "Ċ": "\n"}


def active_words(activation: Activation) -> list[str]:
    """The whole words that hold a token which fires at least ACTIVE_FROM times as strongly as the text's strongest, in order.

    A token is often a part of a word ("ifty"); the word it stands in ("Fifty") is what an explanation names. At most
    ACTIVE_WORDS, each once; none when the source does not tell.
    """
    found: dict[str, None] = {}
    for text, first, last in _spans(activation):
        if word := text[first:last].strip():
            found[word] = None
        if len(found) == ACTIVE_WORDS:
            break
    return list(found)


def distinct_words(texts: Iterable[Sequence[str]], limit: int) -> list[str]:
    """The active words of several texts, each once, at most `limit`, in order."""
    return list(islice(dict.fromkeys(word for words in texts for word in words), limit))


def promoted_words(logits: Sequence[Logit] | None) -> list[str]:
    """The tokens whose logits the feature raises most, strongest first, at most PROMOTED_WORDS, without marks for spaces."""
    raised = sorted((logit for logit in logits or () if logit.value > 0), key=lambda logit: -logit.value)[:PROMOTED_WORDS]
    return [word[:_WORD_CHARACTERS] for logit in raised if (word := _without_marks(logit.token).strip())]


def _spans(activation: Activation) -> Iterator[tuple[str, int, int]]:
    if activation.tokens and activation.token_activations:
        tokens = activation.tokens[:_TOKENS_READ]
        values = activation.token_activations[:_TOKENS_READ]
        least = ACTIVE_FROM * max(values)
        text = _without_marks("".join(tokens))  # a mark is one character and becomes one
        places = [0, *accumulate(map(len, tokens))]
        for number, value in enumerate(values[: len(tokens)]):
            if value >= least and value > 0 and text[places[number] : places[number + 1]].strip():
                yield (text, *_whole_word(text, places[number], places[number + 1]))
        return
    named = [(active.token, active.strength) for active in (activation.active_tokens or [])[:_TOKENS_READ]]
    if not named and activation.peak:
        named = [(activation.peak, 1.0)]
    least = ACTIVE_FROM * max((strength for _, strength in named), default=0.0)
    for token, strength in named:
        if strength > 0 and strength >= least and token.strip() and (at := activation.text.find(token)) >= 0:
            yield (activation.text, *_whole_word(activation.text, at, at + len(token)))


def _without_marks(text: str) -> str:
    for mark, meant in _SPACE_MARKS.items():  # a tenth of the time of str.translate
        text = text.replace(mark, meant)
    return text


def _whole_word(text: str, start: int, end: int) -> tuple[int, int]:
    token = text[start:end]
    first, last = end - len(token.lstrip()), start + len(token.rstrip())
    floor, ceiling = max(0, first - _WORD_CHARACTERS), min(len(text), last + _WORD_CHARACTERS)
    if text[first].isalnum():
        while first > floor and text[first - 1].isalnum():
            first -= 1
    if text[last - 1].isalnum():
        while last < ceiling and text[last].isalnum():
            last += 1
    return first, last
