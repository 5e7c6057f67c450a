"""The gate: answers that are no explanation at all, and so cannot be true or false."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mistudio_explain.events.explanation import Prompt
from mistudio_explain.validation.words import claim_stems, stem, words

SHINGLE_WORDS = 6  # so many words in a row are no coincidence between a sentence and a prompt
ECHO_SHARE = 0.6  # from this share of its word sequences on, a claim repeats a text instead of saying what the texts share
LEAK_SHARE = 0.3
REPEATED_SHARE = 0.2  # fewer distinct words than this share of all: the model got stuck
CLAIM_CHARACTERS = 4_000
PROMPT_CHARACTERS = 64_000
ECHO_CHARACTERS = 1_000  # of each text are searched for the claim: a prompt shows no more of it

_UNCLEAR = re.compile(
    r"^\W*(?:(?:the|this|these|there)\s+(?:\w+\s+){0,3}(?:is|are|seems?(?: to be)?|appears?(?: to be)?|has|have)\s+)?(?:an?\s+)?"
    r"(?:unclear|not clear|indeterminate|undetermined|no (?:clear|common|single|discernible|obvious|consistent)\b.{0,30}\b(?:pattern|theme|feature|meaning)"
    r"|(?:i )?(?:cannot|can['’]t|could not|unable to) (?:determine|identify|find) (?:a|any|the|what))",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"^\W*(?:(?:i['’]?m|i am|we are|we['’]re) (?:very |so |really )?(?:sorry|unable|not able|afraid)|sorry,|my apologies|i apologi[sz]e"
    r"|i (?:can(?:no|['’])t|cannot|can not|won['’]t|will not|must decline)\b|as an? (?:ai|artificial|(?:large )?language model)|unfortunately,? i\b"
    r"|i (?:do not|don['’]t) (?:feel comfortable|have (?:the )?(?:ability|access))|(?:this|the) (?:request|content) (?:violates|goes against))",
    re.IGNORECASE,
)
_ERROR = re.compile(
    r"^\W*(?:traceback \(most recent call last\)|(?:\w*error|\w*exception|fatal|panic)\s*[\"']?\s*[:(]|error\s*\d{3}"
    r"|http(?:/[\d.]+)?\s*(?:error\s*)?[45]\d\d\b|[45]\d\d\s+(?:bad|internal|too many|service|gateway|not found|unauthorized|forbidden)"
    r"|internal server error|bad gateway|service unavailable|gateway time-?out|connection (?:refused|reset|timed out)"
    r"|rate limit (?:exceeded|reached)|model [\"']?[\w.:/-]+[\"']? not found|<!doctype html|<html)",
    re.IGNORECASE,
)
_CHAT_MARKUP = re.compile(r"<\|(?:im_start|im_end|start_header_id|end_header_id|eot_id|system|user|assistant)\|>|\[/?INST\]|<</?SYS>>")


@dataclass(frozen=True, slots=True)
class Objection:
    """Why an answer cannot be checked, as a short mark and as a sentence for people."""

    kind: str
    reason: str
    needs_review: bool = True


def objection_to(pattern: str, prompt: Prompt, keywords: Sequence[str], texts: Iterable[str]) -> Objection | None:
    """The first reason why `pattern` is no explanation; None when it can be checked.

    `texts` are the evidence as far as it is scored: what the claim shares with them is an echo, what it shares with
    the rest of the prompt is a leak. "Unclear" is an honest answer: it cannot be verified and asks for nobody.
    """
    claim = pattern[:CLAIM_CHARACTERS]
    claimed = words(claim)
    if not claimed:
        return Objection("empty", "the answer has no words")
    if _UNCLEAR.match(claim):
        return Objection("unclear", "the explainer says that the pattern is unclear", needs_review=False)
    if _ERROR.match(claim):
        return Objection("error_text", "the answer is an error message, not an explanation")
    if _REFUSAL.match(claim):
        return Objection("refusal", "the explainer refused to answer")
    if len(claimed) >= 2 * SHINGLE_WORDS and len(set(claimed)) < REPEATED_SHARE * len(claimed):
        return Objection("repetition", "the answer repeats the same few words")
    if _lists_keywords(claimed, keywords):
        return Objection("echo", "the answer repeats the list of keywords and says nothing about them")
    if repeated := _repeats(claim, prompt, texts):
        return repeated
    if not claim_stems(claim):
        return Objection("empty", "the answer holds only words that fit any feature, nothing that a text could bear out")
    return None


def _lists_keywords(claimed: Sequence[str], keywords: Sequence[str]) -> bool:
    listed = {stem(word) for keyword in keywords for word in words(keyword)}
    return len(claimed) >= 3 and len(listed) >= 3 and {stem(word) for word in claimed} <= listed | {"and", "or", "keyword"}


def _repeats(claim: str, prompt: Prompt, texts: Iterable[str]) -> Objection | None:
    evidence = "\n".join(texts).lower().replace("\n", " ")
    if (markup := _CHAT_MARKUP.search(claim)) and markup.group().lower() not in evidence:
        return Objection("prompt_leak", f"the answer holds the chat markup {markup.group()}")
    spoken = claim.split()
    shingles = [_flat(" ".join(spoken[i : i + SHINGLE_WORDS])) for i in range(len(spoken) - SHINGLE_WORDS + 1)]
    if not shingles:
        return None
    copied = [shingle in evidence for shingle in shingles]
    if sum(copied) >= ECHO_SHARE * len(shingles):
        return Objection("echo", "the answer repeats one of the texts instead of saying what they share")
    asked = _flat("\n".join(message.content for message in prompt.messages if message.role != "assistant")[:PROMPT_CHARACTERS])
    leaked = sum(not from_text and shingle in asked for shingle, from_text in zip(shingles, copied, strict=True))
    if leaked >= LEAK_SHARE * len(shingles):
        return Objection("prompt_leak", "the answer repeats the instructions of the prompt")
    return None


def _flat(text: str) -> str:
    return " ".join(text.lower().split())
