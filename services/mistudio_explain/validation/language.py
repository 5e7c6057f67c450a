"""Whether an explanation and its texts are written in different languages of one script."""

from collections import Counter
from collections.abc import Iterable, Mapping

from mistudio_explain.generation.language import FUNCTION_WORDS, unquoted
from mistudio_explain.validation.words import words

FEWEST_FOUND = 10  # function words of one language; fewer do not tell what the texts are written in
FOUND_SHARE = 0.15  # of the texts' words, by judgement: so that code and lists are of no language
AT_HOME = 0.5  # of the texts' language's function words that another has in them too: related languages share as many
FEWEST_SAID = 2  # function words of a claim that is not English: one alone stands in English claims too ("pro", "die")

_LANGUAGES_OF: Mapping[str, tuple[str, ...]] = {
    word: tuple(language for language, known in FUNCTION_WORDS.items() if word in known) for known in FUNCTION_WORDS.values() for word in known if len(word) > 1
}
"""Single letters are left out: they are what apostrophes leave, or names of things."""


def foreign_to(claim: str, texts: Iterable[Iterable[str]]) -> str | None:
    """The language of the texts, given as their words, when the claim is in another; None where that cannot be told.

    Told by function words: a claim without any ("capital cities") is of no language, and what it quotes is what it speaks
    of. Texts are of the language that has most function words in them. Neighbours that share half of
    their function words, as Danish and Swedish may, are not told apart.
    """
    spoken = _counted(words(unquoted(claim)))
    if not spoken:
        return None
    read = [word for text in texts for word in text]
    there = _counted(read)
    if not there:
        return None
    language, found = there.most_common(1)[0]
    if found < max(FEWEST_FOUND, FOUND_SHARE * len(read)):
        return None
    most = max(spoken.values())
    may_be = [own for own, count in spoken.items() if count == most]
    if most < FEWEST_SAID and "English" not in may_be:
        return None
    return None if any(there[own] >= AT_HOME * found for own in may_be) else language


def _counted(read: Iterable[str]) -> Counter[str]:
    """How many of the words are function words, by language."""
    return Counter(language for word in read for language in _LANGUAGES_OF.get(word, ()))
