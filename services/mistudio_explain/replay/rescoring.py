"""Re-scoring: drafts made again out of outcomes, so that explanations are validated anew and no model is asked."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mistudio_explain.context.prompt import Templates, rendered_again
from mistudio_explain.events.explanation import ExplanationDrafted, FeatureOutcome, OutcomeKind, Prompt
from mistudio_explain.settings import ContextSettings

PROVISIONAL = "provisional"
_OF_VALIDATION = frozenset(
    {
        *("no_contrast", PROVISIONAL, "long_text", "peak_unknown", "texts_left_out", "keywords_only", "no_words"),
        *("empty", "unclear", "error_text", "refusal", "repetition", "echo", "prompt_leak"),
    }
)
"""The flags of validator version 1, whose outcomes do not tell their draft's flags apart."""
_OF_THE_PROMPT = frozenset({"echo", "prompt_leak"})
"""What only the prompt itself can show."""


@dataclass(frozen=True, slots=True)
class NotRedrafted:
    """Why an outcome gives no draft."""

    why: str


@dataclass(slots=True)
class Tally:
    """What became of a job's outcomes."""

    sent: int = 0
    current: int = 0
    """Nothing asks for a new score."""
    left: Counter[str] = field(default_factory=Counter)
    """Wanted, but no draft can be made of them; by the reason."""


Wanted = Callable[[FeatureOutcome], bool]


def is_provisional(outcome: FeatureOutcome) -> bool:
    """Whether an outcome was scored before the background of its find job was complete."""
    return outcome.outcome is OutcomeKind.EXPLAINED and PROVISIONAL in outcome.flags


def is_outdated(outcome: FeatureOutcome, validator_version: int) -> bool:
    """Whether this validator may score it differently: it is provisional, or an earlier version scored it."""
    return outcome.outcome is OutcomeKind.EXPLAINED and (is_provisional(outcome) or outcome.validator_version < validator_version)


def drafts_of(outcomes: Iterable[FeatureOutcome], wanted: Wanted, templates: Templates, context: ContextSettings, tally: Tally) -> Iterator[ExplanationDrafted]:
    """The drafts of the explained outcomes that are wanted; `tally` counts what becomes of each explained one."""
    for outcome in outcomes:
        if outcome.outcome is not OutcomeKind.EXPLAINED:
            continue
        if not wanted(outcome):
            tally.current += 1
            continue
        made = redrafted(outcome, templates, context)
        if isinstance(made, NotRedrafted):
            tally.left[made.why] += 1
        else:
            tally.sent += 1
            yield made


def redrafted(outcome: FeatureOutcome, templates: Templates, context: ContextSettings) -> ExplanationDrafted | NotRedrafted:
    """The draft that an outcome came from, under the next revision, so that its new outcome counts.

    All is in the outcome but the prompt's messages, of which it has the hash: they are rendered anew, and when the hash
    tells that they are not the same (another template, audience or budget), they are left out. What the gate found by them then
    could not be found again, so such an outcome is left as it is.
    """
    if outcome.outcome is not OutcomeKind.EXPLAINED:
        return NotRedrafted(f"it is {outcome.outcome.value}")
    if outcome.answer is None or outcome.evidence is None or outcome.generation is None or outcome.complexity not in ("low", "medium", "high"):
        return NotRedrafted("it does not have its answer, its texts or its origin")
    prompt = prompt_of(outcome, templates, context)
    if not prompt.messages and _OF_THE_PROMPT & set(outcome.flags):
        return NotRedrafted("it repeats its prompt, which cannot be rendered again")
    return ExplanationDrafted(
        subject=outcome.subject.retried_as(outcome.subject.revision + 1).model_copy(update={"published_ms": None}),  # nobody waits for it since then
        evidence=outcome.evidence,
        answer=outcome.answer,
        generation=outcome.generation,
        prompt=prompt,
        complexity=outcome.complexity,
        pass_number=outcome.pass_number,
        earlier=outcome.earlier,
        other=outcome.other,
        flags=outcome.draft_flags if outcome.draft_flags is not None else [flag for flag in outcome.flags if flag not in _OF_VALIDATION],
        caveats=outcome.caveats,
        judge=outcome.judge,
    )


def prompt_of(outcome: FeatureOutcome, templates: Templates, context: ContextSettings) -> Prompt:
    """The prompt that an outcome names, with its messages if they can be rendered as they were."""
    name, _, version = (outcome.prompt_template or "").rpartition("@")
    template = templates.known.get(outcome.prompt_template or "")
    if template is not None and outcome.evidence is not None:
        rendered = rendered_again(outcome.subject, outcome.evidence, template, context.prompt_tokens, audience=context.audience)
        if rendered.prompt.sha256 == outcome.prompt_sha256 and len(rendered.split.seen) == len(outcome.evidence.seen):
            return rendered.prompt
    form = "fields" if outcome.answer is not None and outcome.answer.label is not None else "sentence"
    return Prompt(template=name, version=version, sha256=outcome.prompt_sha256 or "", messages=[], answer=form)
