"""The examples that a judge is shown: texts with a known truth, all cut to the same size.

The method is that of EleutherAI's delphi (arXiv 2410.13928). Detection shows texts on which the feature fires (held out
from the explainer, evenly over their activation quantiles) and texts of other features. Fuzzing shows the feature's own
texts alone, with the words marked on which it fires, or with as many others: the text cannot tell, only the marks.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mistudio_explain.context.cleaning import cleaned, neutral
from mistudio_explain.context.marks import Span, spans
from mistudio_explain.context.windows import bounded
from mistudio_explain.events.explanation import Evidence
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import BackgroundFeature

EXCERPT_CHARACTERS = 200  # own texts are cut as those of a background are: a judge must not tell them from others by their length
QUANTILES = 5
NEAREST = 3  # features whose texts are the hard negatives
MARKED_FROM = 0.3  # of the greatest activation in the text; delphi's threshold
LONGEST_COMPARED = 20_000  # characters; bounds the cost of a monstrous text
RANDOM_DISTANCE = -1.0  # what delphi writes for a text that is no neighbour's
_WORD = re.compile(r"\w+")

Source = Literal["own", "random", "siblings", "moved"]
"""Whose text an example is: the feature's, another's, one of the nearest others', or the feature's with the marks moved."""


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its truth. `distance` is the quantile of an own text (0 has the strongest), the similarity of a sibling, -1 of a random feature."""

    text: str
    source: Source
    distance: float
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    """Of each token; empty where nobody knows them."""

    @property
    def activating(self) -> bool:
        """Whether the right answer is 1."""
        return self.source == "own"


@dataclass(frozen=True, slots=True)
class _Own:
    """A text of the feature, cut to its excerpt, with the places where the feature fires in it."""

    text: str
    spans: tuple[Span, ...]
    quantile: int


def detection_examples(
    evidence: Evidence, key: str, background: Sequence[BackgroundFeature], *, positives: int, randoms: int, siblings: int, rng: random.Random
) -> list[Example]:
    """Own texts, texts of random other features and of the nearest ones, shuffled; fewer where there are not as many."""
    owned = {_same(text.text) for text in (*evidence.seen, *evidence.held_out)}
    others = [feature for feature in background if feature.feature_key != key]
    near = _nearest([text.text for text in (*evidence.seen, *evidence.held_out)], others)
    hard = [(text, near[feature.feature_key]) for feature in others if feature.feature_key in near for text in feature.texts]
    easy = [text for feature in others if feature.feature_key not in near for text in feature.texts[:1]] or [text for text, _ in hard]
    examples = [
        *(_example(own.text, "own", float(own.quantile), own.spans) for own in _picked(evidence, positives)),
        *(_example(text[:EXCERPT_CHARACTERS], "siblings", similarity) for text, similarity in _some(hard, siblings, owned, rng)),
        *(_example(text[:EXCERPT_CHARACTERS], "random", RANDOM_DISTANCE) for text, _ in _some([(text, 0.0) for text in easy], randoms, owned, rng)),
    ]
    rng.shuffle(examples)
    return list({_same(example.text): example for example in examples}.values())


def fuzzing_examples(evidence: Evidence, *, positives: int, rng: random.Random) -> list[list[Example]]:
    """Own texts with the right words marked and with as many wrong ones, in two lists that must not stand in one question: no text is twice in a list."""
    halves: list[list[Example]] = [[], []]
    marked = [(own, _firing(own)) for own in _picked(evidence, positives)]
    chosen = [(own, right) for own, right in marked if right]
    rng.shuffle(chosen)
    for number, (own, right) in enumerate(chosen):
        wrong = _moved(own, right, rng)
        if wrong:
            kinds = [("own", right), ("moved", wrong)] if number % 2 else [("moved", wrong), ("own", right)]
            for half, (source, places) in zip(halves, kinds, strict=True):
                plain = _example(own.text, "own", float(own.quantile), own.spans)
                half.append(replace(plain, text=_with_marks(own.text, places), source="own" if source == "own" else "moved"))
    return [half for half in halves if half]


def basis_of(evidence: Evidence) -> Literal["held_out", "seen"]:
    """Which of the feature's texts a judge is shown: those that the explainer did not see, where there are some."""
    return "held_out" if evidence.held_out else "seen"


def _picked(evidence: Evidence, wanted: int) -> list[_Own]:
    """Texts to ask about, as evenly over the quantiles as there are some; quantiles are of all the feature's texts."""
    every = [*evidence.seen, *evidence.held_out]
    ranked = sorted(range(len(every)), key=lambda place: (-(every[place].activation_strength or -math.inf), place))
    quantile = {place: rank * QUANTILES // len(every) for rank, place in enumerate(ranked)}
    unseen = len(evidence.seen)
    shown = range(unseen + evidence.chosen_on, len(every)) or range(unseen, len(every)) or range(len(every))
    places = [place for place in ranked if place in shown and every[place].text.strip()]
    of_quantile: dict[int, list[int]] = {}
    for place in places:
        of_quantile.setdefault(quantile[place], []).append(place)
    rounds = sorted(places, key=lambda place: (of_quantile[quantile[place]].index(place), quantile[place]))
    return [_own(every[place], quantile[place]) for place in rounds[:wanted]]


def _own(activation: Activation, quantile: int) -> _Own:
    cut = bounded(activation, EXCERPT_CHARACTERS)
    return _Own(cut.text, tuple(spans(cut)), quantile)


def _example(text: str, source: Source, distance: float, fires: Sequence[Span] = ()) -> Example:
    tokens, activations = _cut(text, fires)
    return Example(_shown(text), source, distance, tokens, activations)


def _cut(text: str, fires: Sequence[Span]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The text in pieces at the places where the feature fires, with the activation of each; one piece and no activation where these are not known."""
    if not fires or any(value is None for _, _, value in fires):
        return (cleaned(text),), ()
    pieces: list[tuple[str, float]] = []
    at = 0
    for first, last, value in fires:
        pieces += [(text[at:first], 0.0)] if first > at else []
        pieces.append((text[max(at, first) : last], value or 0.0))
        at = max(at, last)
    pieces += [(text[at:], 0.0)] if at < len(text) else []
    return tuple(cleaned(piece) for piece, _ in pieces), tuple(value for _, value in pieces)


def _firing(own: _Own) -> list[tuple[int, int]]:
    """The places in a text whose activation is at least MARKED_FROM of its greatest; a place of unknown strength counts."""
    greatest = max((value for _, _, value in own.spans if value is not None), default=0.0)
    return [(first, last) for first, last, value in own.spans if value is None or value >= MARKED_FROM * greatest]


def _moved(own: _Own, right: Sequence[tuple[int, int]], rng: random.Random) -> list[tuple[int, int]]:
    """As many words as are marked rightly, of those on which the feature does not fire at all; none when there are none."""
    quiet = [match.span() for match in _WORD.finditer(own.text) if not any(match.start() < last and first < match.end() for first, last, _ in own.spans)]
    marked = len(_merged(right))
    return sorted(rng.sample(quiet, min(marked, len(quiet))))


def _merged(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for first, last in sorted(places):
        if runs and first <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((first, last))
    return runs


def _with_marks(text: str, places: Sequence[tuple[int, int]]) -> str:
    """The text with <<marks>>; a `<<` of the text itself is no mark."""
    plain = text.replace("<", "‹").replace(">", "›")
    pieces, at = [], 0
    for first, last in _merged(places):
        lead = first + len(text[first:last]) - len(text[first:last].lstrip())
        pieces += [neutral(plain[at:lead]), _marked(plain[lead:last])]
        at = last
    return _on_a_line("".join([*pieces, neutral(plain[at:])]))


def _marked(word: str) -> str:
    """A word under its mark, with space inside where the mark would make a control token of it: `<<s>>` holds `<s>`."""
    return f"<<{word}>>" if neutral(f"<{word}>") == f"<{word}>" else f"<< {word} >>"


def _shown(text: str) -> str:
    return neutral(_on_a_line(text))


def _on_a_line(text: str) -> str:
    return " ".join(cleaned(text).split())


def _same(text: str) -> str:
    return " ".join(text[:LONGEST_COMPARED].casefold().split())


def _some(texts: Sequence[tuple[str, float]], wanted: int, owned: set[str], rng: random.Random) -> list[tuple[str, float]]:
    usable = [(text, distance) for text, distance in texts if text.strip() and not any(_same(text) in own or own in _same(text) for own in owned)]
    return rng.sample(usable, min(wanted, len(usable)))


def _nearest(texts: Sequence[str], others: Sequence[BackgroundFeature]) -> dict[str, float]:
    """The NEAREST features by the cosine of their texts' words, rare words counting more, and that cosine; half of the others at most."""
    bags = [_bag(feature.texts) for feature in others]
    frequency = Counter(word for bag in bags for word in bag)
    weight = {word: math.log(1 + len(bags) / count) for word, count in frequency.items()}
    mine = _bag(texts)
    ranked = sorted(
        ((_cosine(mine, bag, weight), feature.feature_key) for feature, bag in zip(others, bags, strict=True)), key=lambda pair: (-pair[0], pair[1])
    )
    return {key: similarity for similarity, key in ranked[: min(NEAREST, len(others) // 2)]}


def _bag(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(word for text in texts for word in _WORD.findall(text[:LONGEST_COMPARED].lower()))


def _cosine(a: frozenset[str], b: frozenset[str], weight: dict[str, float]) -> float:
    shared = sum(weight[word] ** 2 for word in a & b if word in weight)
    norms = math.sqrt(sum(weight.get(word, 0.0) ** 2 for word in a) * sum(weight[word] ** 2 for word in b))
    return shared / norms if norms else 0.0
