"""An OpenAI-compatible server with two models: one explains, the other judges as a test wants it to."""

import re
from collections.abc import Callable
from typing import Any

import orjson

from integration.slow_llm import SlowLlm

JUDGE = "critic"
_TEXT = re.compile(r'^\d+: (".*")$', re.MULTILINE)


class JudgeLlm(SlowLlm):
    """The server; `judges` gives the judge's answer for the texts of a question, `asked` counts its calls by model."""

    models = ("fake", JUDGE)

    def __init__(self, judges: Callable[[str, list[str]], str]) -> None:
        super().__init__(seconds=0.0)
        self.judges = judges
        self.asked: list[str] = []

    def said(self, body: dict[str, Any]) -> str:
        """The judge's answer to a judge's question, else the fixed explanation."""
        question = body["messages"][-1]["content"]
        if "JSON list of" not in question:
            return super().said(body)
        self.asked.append(body["model"])
        return self.judges(question, [orjson.loads(text) for text in _TEXT.findall(question)])


def knows_dogs(question: str, texts: list[str]) -> str:
    """Right about every text that names a dog, and about every mark on one."""
    if "two grades" in question:
        return "[3, 4]"
    wanted = "<<dog>>" if "marked <<so>>" in question else "dog"
    return orjson.dumps([int(wanted in text) for text in texts]).decode()


def garbage(question: str, texts: list[str]) -> str:
    """No list at all."""
    return "I would say that most of them do."
