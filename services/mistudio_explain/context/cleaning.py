"""Cleans texts of what no reader would see, and of what a chat template would take for its own."""

import re
import unicodedata

# control characters, lone surrogates, direction overrides, tag characters: invisible, and good for nothing but to mislead
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\x85\x0b\x0c]")
_CONTROL_TOKENS = (
    (re.compile(r"<(?=[|｜])|<(?=/?(?:s|start_of_turn|end_of_turn|bos|eos|unk|pad|think|SYS)>)", re.IGNORECASE), "‹"),  # <|im_start|>, <｜User｜>, <s>, <<SYS>>
    (re.compile(r"(?<=[|｜])>"), "›"),
    (re.compile(r"\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])", re.IGNORECASE), "("),
)


def cleaned(text: str) -> str:
    """The text in Unicode's composed form (NFC) without invisible characters; every kind of line end becomes a newline."""
    if not text.isprintable():
        text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def one_line(text: str, longest: int) -> str:
    """The cleaned, neutral text on one line of at most `longest` characters."""
    return neutral(" ".join(cleaned(text[: 4 * longest]).split()))[:longest].rstrip()


def neutral(text: str) -> str:
    """The text with the control tokens of chat templates rewritten: a server that looks for them in texts sees plain characters.

    `<|im_start|>` becomes `‹|im_start|›`, `[INST]` becomes `(INST]`, `<s>` becomes `‹s>`. The length stays.
    """
    if "<" not in text and ">" not in text and "[" not in text:
        return text
    for token, plain in _CONTROL_TOKENS:
        text = token.sub(plain, text)
    return text
