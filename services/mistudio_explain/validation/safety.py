"""Safety: hazards that a feature's texts or its explanation speak of."""

import tomllib
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from mistudio_explain.events.explanation import Safety, SafetyEvidence
from mistudio_explain.validation.contrast import Texts
from mistudio_explain.validation.words import words

TEXTS_SHARE = 0.2  # measured on a prototype of this lexicon as regular expressions: recall 0.96, 3.4% of features flagged
EVIDENCE_PLACES = 20

Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """Hazard words and phrases by class; there is one, and it is compared by identity."""

    exact: dict[str, frozenset[str]]
    prefixes: dict[str, frozenset[str]]
    prefix_lengths: tuple[int, ...]
    phrases: dict[str, tuple[tuple[Phrase, str], ...]]
    """First word: the phrases that begin with it, with their classes."""

    @classmethod
    def load(cls) -> "Lexicon":
        """Read the lexicon that comes along."""
        table: dict[str, str] = tomllib.loads((files(__package__) / "safety.toml").read_text("utf-8"))
        exact: dict[str, set[str]] = {}
        prefixes: dict[str, set[str]] = {}
        phrases: dict[str, list[tuple[Phrase, str]]] = {}
        for hazard, listed in table.items():
            for entry in (entry.strip() for entry in listed.replace("\n", " ").split(",")):
                if " " in entry:
                    phrase = tuple(entry.split())
                    phrases.setdefault(phrase[0], []).append((phrase, hazard))
                elif entry.endswith("*"):
                    prefixes.setdefault(entry[:-1], set()).add(hazard)
                else:
                    exact.setdefault(entry, set()).add(hazard)
        lengths = tuple(sorted({len(prefix) for prefix in prefixes}))
        return cls(_frozen(exact), _frozen(prefixes), lengths, {first: tuple(listed) for first, listed in phrases.items()})

    def suspects(self, distinct: AbstractSet[str]) -> set[str]:
        """Those of the words that are hazard words or begin a phrase; a text with none of them holds no hazard."""
        return {word for word in distinct if word in self.phrases or _classes(self, word)}

    def found(self, spoken: Sequence[str]) -> dict[str, set[str]]:
        """The hazard words among `spoken`, by class."""
        hits: dict[str, set[str]] = {}
        distinct = set(spoken)
        for word in distinct:
            for hazard in _classes(self, word):
                hits.setdefault(hazard, set()).add(word)
        for first in distinct & self.phrases.keys():
            for phrase, hazard in self.phrases[first]:
                if _follow(spoken, phrase):
                    hits.setdefault(hazard, set()).add(" ".join(phrase))
        return hits


def _follow(spoken: Sequence[str], phrase: Phrase) -> bool:
    return any(tuple(spoken[at : at + len(phrase)]) == phrase for at, word in enumerate(spoken) if word == phrase[0])


@lru_cache(maxsize=1 << 16)
def _classes(lexicon: Lexicon, word: str) -> frozenset[str]:
    """Classes of a single word; remembered, for most words of a text were seen before."""
    return lexicon.exact.get(word, frozenset()).union(*(lexicon.prefixes.get(word[:length], frozenset()) for length in lexicon.prefix_lengths))


def safety(texts: Texts, said: str, lexicon: Lexicon) -> Safety:
    """Compare what the texts and the explanation (label and pattern; `said`) speak of.

    The texts speak of a hazard when at least TEXTS_SHARE of them have a hazard word: an explanation may be written to
    deceive, so the texts count by themselves. Both sides with a class in common: concerning. Otherwise, one side is
    enough for requires_review. Significance and implications are left out: models like to imagine harm there.
    """
    places = [SafetyEvidence(category=hazard, where="explanation", words=sorted(hits)) for hazard, hits in sorted(lexicon.found(words(said)).items())]
    in_explanation = [place.category for place in places]
    by_text = _by_text(texts, lexicon)
    texts_speak = texts.count > 0 and len(by_text) >= TEXTS_SHARE * texts.count
    common = Counter(hazard for hits in by_text.values() for hazard in hits)
    for index, hits in by_text.items():
        places += [SafetyEvidence(category=hazard, where="text", index=index, words=sorted(found)) for hazard, found in sorted(hits.items())]
    if not texts_speak and not in_explanation:
        return Safety(assessment="safe")
    categories = [hazard for hazard, _ in common.most_common()] if texts_speak else []
    return Safety(
        assessment="concerning" if texts_speak and any(hazard in common for hazard in in_explanation) else "requires_review",
        categories=list(dict.fromkeys([*categories, *in_explanation])),
        evidence=places[:EVIDENCE_PLACES],
    )


def _by_text(texts: Texts, lexicon: Lexicon) -> dict[int, dict[str, set[str]]]:
    """Hazard words by number of the text, for the texts that have any."""
    by_text: dict[int, dict[str, set[str]]] = {}
    suspects = lexicon.suspects(set().union(*texts.words))
    for index, spoken in zip(texts.text_of.tolist(), texts.words, strict=True):
        if suspects.isdisjoint(spoken):
            continue
        for hazard, found in lexicon.found(spoken).items():
            by_text.setdefault(index, {}).setdefault(hazard, set()).update(found)
    return by_text


def _frozen(classes: dict[str, set[str]]) -> dict[str, frozenset[str]]:
    return {entry: frozenset(hazards) for entry, hazards in classes.items()}
