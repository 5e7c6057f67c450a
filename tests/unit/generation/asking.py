"""Requests for the tests of generation."""

import hashlib

from mistudio_explain.events.explanation import Category, Evidence, ExplanationRequested, Message, Prompt, Subject, Tier
from mistudio_explain.events.feature import Activation, JobRequest

TEXTS = ("The dog barked at the old postman near the gate.", "Two puppies slept in the basket.", "My terrier chased a squirrel.")


def prompt(form: str = "sentence", prefill: str | None = None, texts: tuple[str, ...] = TEXTS) -> Prompt:
    asked = "Texts:\n" + "\n".join(texts) + "\nIn one sentence, say what these texts have in common."
    messages = [Message(role="user", content=asked)] + ([Message(role="assistant", content=prefill)] if prefill else [])
    return Prompt(template="t", version="1", sha256=hashlib.sha256(repr((form, messages)).encode()).hexdigest(), messages=messages, answer=form)


def requested(form: str = "sentence", prefill: str | None = None, *, route: tuple[str, ...] = (), feature: str = "5") -> ExplanationRequested:
    subject = Subject(
        explain_job_id="explain_1",
        find_job_id="find_1",
        target_model="gpt2",
        feature_id=feature,
        feature_key=feature,
        tier=Tier.FAIR,
        category=Category.OTHER,
        category_source="inferred",
    )
    return ExplanationRequested(
        event_id=f"e{feature}",
        subject=subject,
        request=JobRequest(explain_job_id="explain_1"),
        complexity="low",
        evidence=Evidence(seen=[Activation(text=text) for text in TEXTS]),
        prompt=prompt(form, prefill),
        route=list(route),
        flags=["poor_coherence"],
        caveats=["Few texts."],
    )
