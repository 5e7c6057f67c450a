"""Explanations that say what a feature does not detect: no text can bear them out, and texts that have what they name speak against them."""

import re

from mistudio_explain.events.explanation import Accuracy

_ACTS = (
    r"(?:to )?(?:activat|fir|find|detect|respond|captur|identif|recogni[sz]|represent|promot|describ|react|outputs?\b|look"
    r"|trigger|concern|relat|refer|mention|involv|care\b)"
)
_NOT = r"(?:does not|doesn['’]t|do not|don['’]t|never|is not|isn['’]t|are not|aren['’]t|no longer)"
_ANY = r"(?:anything|everything|nothing|something|whatever|all|any|texts?|words?|tokens?|phrases?|passages?|content|sentences?|terms)"
_LACKS = r"that (?:lacks?|never|(?:is|are|do|does|has|have) (?:not|no|nothing)|(?:isn|aren|don|doesn)['’]t)"
_NEGATED = re.compile(
    rf"^\W*(?:(?:the|this|it|that|a)\s+)?(?:\w+\s+){{0,6}}?{_NOT}\s+(?:\w+ly\s+)?{_ACTS}"
    rf"|^\W*(?:(?:the|this)\s+\w+\s+\w+\s+(?:on\s+|to\s+)?)?{_ANY}\s+(?:of any kind\s+)?"
    rf"(?:but|except|other than|besides|apart from|without|lacking|{_LACKS}|not|unrelated)\b"
    r"|^\W*(?:the\s+)?(?:absence|lack) of\b",
    re.IGNORECASE,
)


def is_negated(claim: str) -> bool:
    """Whether the claim's main statement is that the feature leaves something out ("does not activate on", "anything but")."""
    return _NEGATED.match(claim) is not None


def turned(accuracy: Accuracy) -> Accuracy:
    """The accuracy of the opposite of a claim: what stands out in the texts speaks against it, what does not speaks for nothing.

    Every probability becomes the smaller of itself and its complement, so that a negated claim is never confirmed.
    """
    low, high = accuracy.low, accuracy.high
    p = _smaller(accuracy.p)
    return accuracy.model_copy(
        update={
            "p": p,
            "low": None if low is None or high is None else min(_smaller(low), _smaller(high)),
            "high": None if low is None or high is None else max(p, 0.5 if low <= 0.5 <= high else max(_smaller(low), _smaller(high))),
            **{name: None if value is None else _smaller(value) for name in ("seen", "held_out", "masked", "coverage") for value in (getattr(accuracy, name),)},
        }
    )


def _smaller(p: float) -> float:
    return min(p, 1 - p)
