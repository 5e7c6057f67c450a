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
_SPEAKER = r"(?:i|we)"
_NOT = r"(?:can(?:no|['’])?t|can not|could(?: not|n['’]t)|wo(?:uld )?n['’]t|w(?:ill|ould) not|would(?:n['’]t)|should(?: not|n['’]t))"
_REFUSAL = re.compile(
    r"^\W*(?:(?:pattern|explanation|answer|response|label|assistant)\s*:\s*)?"
    r"(?:(?:sure|no|yes|well|ok(?:ay)?|certainly|thank(?:s| you)|hello|hi)\b[^.!?,]{0,60}[,.!]\s*)?(?:(?:but|however|unfortunately|regrettably|sadly)\b,?\s*)*"
    r"(?:as an? [^,.]{0,40}\b(?:assistant|model|ai)\b[^,.]{0,30},?\s*)?"
    rf"(?:{_SPEAKER}(?:['’]m| am|['’]re| are) (?:\w+ ){{0,2}}(?:sorry|unable|afraid"
    r"|not (?:able|allowed|permitted|comfortable|going to)|just an? (?:\w+ )?(?:ai|model|language))"
    rf"|{_SPEAKER} (?:(?:really|simply|just) )?(?:{_NOT}|must (?:decline|refuse)|have to (?:decline|refuse)|decline|refuse to|apologi[sz]e)\b"
    rf"|{_SPEAKER} do(?: not|n['’]t) (?:feel comfortable|have (?:the |enough |any )?(?:ability|access|context|information|texts?)|want to|wish to)"
    rf"|{_SPEAKER}(?:['’]d| would) (?:rather not|prefer not)|{_SPEAKER} need (?:more|the) "
    r"|sorry[,.!]? (?:but|i|we|this|that|the|you)\b|sorry[.!]?\s*$|my apologies|(?:my|our) (?:safety |content "
    r"|usage )?(?:guidelines|programming|polic(?:y|ies))\b"
    r"|it (?:is|would be|['’]s) (?:not (?:appropriate|possible|ethical)|inappropriate|impossible|unethical) (?:for me"
    r"|to (?:explain|describe|answer|provide|discuss))"
    rf"|that(?:['’]s| is) something {_SPEAKER}\b"
    r"|(?:this|the|your) (?:request|content|prompt|question|response|answer) (?:violates|goes against|(?:was|is"
    r"|has been) (?:blocked|flagged|filtered|rejected|withheld))"
    r"|please (?:provide|share|paste|send|give me|rephrase|upload)\b|let['’]?s (?:talk about|discuss|change the)|if you or someone you (?:know|love)"
    r"|as an? (?:ai|artificial|(?:large )?language model)\b"
    r"|es tut mir leid|ich kann (?:\w+ ){0,4}nicht|lo siento|no puedo\b|je suis désolé|désolé|je ne peux pas|mi dispiace|non posso\b|desculpe|não posso"
    r"|抱歉|很抱歉|对不起|對不起|我无法|我無法|我不能|申し訳|すみません|죄송|извините|к сожалению|я не могу)",
    re.IGNORECASE,
)
_ERROR = re.compile(
    r"^\W*(?:traceback \(most recent call last\)|(?:[\w.]*(?:error|exception|timeout)|fatal|panic)(?:\(|\s*[\"']?\s*:)|error\s*\d{3}"
    r"|http(?:/[\d.]+)?\s*(?:error\s*)?[45]\d\d\b|[45]\d\d\s+(?:bad|internal|too many|service|gateway|not found|unauthorized|forbidden)"
    r"|internal server error|bad gateway|service unavailable|gateway time-?out|connection (?:refused|reset|timed out)|too many requests"
    r"|(?:cuda |gpu )?out of memory\b|context length exceeded|(?:an|a) (?:\w+ )?error (?:has )?occurred (?:while|when|during"
    r"|in|on)\b|the (?:server|model) is (?:\w+ )?(?:overloaded|busy|loading)"
    r"|invalid api key|(?:upstream )?request (?:timed out|timeout)|upstream (?:request|connect)|you (?:have )?exceeded your|quota exceeded"
    r"|rate limit (?:exceeded|reached)|model [\"']?[\w.:/-]+[\"']? not found|<!doctype html|<html)",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"\W*(?:none|null|nil|nan|undefined|todo|tbd|n/?a|not applicable|string|(?:the |my )?(?:pattern|explanation|label|answer"
    r"|response|description)(?: is)?(?: as follows)?)\W*",
    re.IGNORECASE,
)
_QUOTED_FIRST = re.compile(r"^\s*(?:[\"“«`][^\"“”«»`]{1,80}[\"”»`]|['‘][^'‘’]{1,30}(?:['’](?=\w)[^'‘’]{1,30})?['’](?!\w))[\s,]+\w+")
"""A claim that begins with a quotation and goes on speaks about these words; it does not say them."""
_CHAT_MARKUP = re.compile(r"<\|(?:im_start|im_end|start_header_id|end_header_id|eot_id|system|user|assistant)\|>|\[/?INST\]|<</?SYS>>")
_INSTRUCTION = re.compile(
    r"\b(?:BEGIN|END) [0-9a-f]{12}\b"  # the line that parts evidence from instructions (context/prompt.py)
    r"|^\W*(?i:you (?:were|are|have been) (?:asked|shown|given|told|instructed|to )|(?:my|the"
    r"|your) (?:system )?(?:instructions|prompt) (?:are|is|says?|asks?|tells?)\b"
    r"|(?:the )?system prompt\s*[:=]|system\s*:)|(?i:\bone json object and nothing else\b)",
)


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
    if not claimed or _PLACEHOLDER.fullmatch(claim):
        return Objection("empty", "the answer has no words" if not claimed else "the answer is a placeholder")
    if _UNCLEAR.match(claim):
        return Objection("unclear", "the explainer says that the pattern is unclear", needs_review=False)
    about_words = _QUOTED_FIRST.match(claim) is not None
    if not about_words and _ERROR.match(claim):
        return Objection("error_text", "the answer is an error message, not an explanation")
    if not about_words and _REFUSAL.match(claim):
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
    if _INSTRUCTION.search(claim):
        return Objection("prompt_leak", "the answer speaks of its instructions or repeats a line of the prompt")
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
