"""How a report's numbers were made, by which versions, and what a regulator asks: which models, which prompts, what left the machine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of

from mistudio_explain.events.job import JobReport
from mistudio_explain.reporting.departure import WHAT_IS_SENT, departure
from mistudio_explain.reporting.origin import ModelFigures, PromptFigures
from mistudio_explain.reporting.survey import Survey
from mistudio_explain.reporting.wording import counted

_PLACES = {
    "machine": "on the machine of the service that asks",
    "network": "in the operator's network",
    "cloud": "in a cloud",
    "unknown": "at a place not recorded",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a report states under a name, in one sentence or several."""

    name: str
    sentences: tuple[str, ...]


METHODS: tuple[Fact, ...] = (
    Fact(
        "Accuracy",
        (
            "The probability that this explanation belongs to this feature rather than to another of its find job; a number between 0 and 1, no share of "
            "texts. It compares words and meaning of the explanation with the feature's texts, against a sample of the find job's other features.",
        ),
    ),
    Fact(
        "Verdict",
        (
            "confirmed: the accuracy reaches the threshold that is set, the held-out texts, which no prompt showed, do not stay behind, and the "
            "explanation says more than the keywords do. contradicted: the held-out texts speak against it. unverifiable: there was nothing to "
            "check. partial: everything else.",
        ),
    ),
    Fact(
        "Confidence", ("The probability that the verdict is right, by the accuracy's interval and the number of texts; absent where a verdict takes no side.",)
    ),
    Fact(
        "Quality",
        (
            "0.4 accuracy + 0.3 clarity + 0.2 consistency + 0.1 relevance; absent where one of them is.",
            "Clarity is a set of rules that was not tested on people.",
        ),
    ),
    Fact(
        "Safety",
        (
            "Texts and explanation are read for hazard words and for likeness to known hazards. concerning: both sides agree; requires review: one side alone; "
            "safe: nothing known was found, which is not the same as harmless.",
        ),
    ),
    Fact(
        "Coherence",
        ("miStudioFind's: the share of words that a feature's texts have in common. A feature of meaning rather than of wording has little of it.",),
    ),
    Fact("Means", ("A component that could not be computed is said to be so and enters no mean; skipped and failed features enter none.",)),
)
"""What the numbers mean; docs/validation.md measures how far to believe them."""


def methods(figures: Survey) -> tuple[Fact, ...]:
    """What the numbers mean, and the versions of everything that made them."""
    origin = figures.origin
    judges = tuple(f"prompts version {version} ({n:,})" for (_, _, version), n in figures.agreement.judges.items())
    facts = (
        *METHODS,
        Fact("Product", (f"miStudioExplain {version_of('mistudio-explain')}",)),
        Fact("Validator", tuple(f"version {version} ({n:,})" if version else f"did not run ({n:,})" for version, n in origin.validators.items())),
        Fact("Background", tuple(_background(*key, n) for key, n in origin.backgrounds.items())),
        Fact("Prompt templates", tuple(f"{prompt.template} ({prompt.explained:,})" for prompt in origin.prompts)),
        Fact("Judge", judges or ("none was asked",)),
    )
    return tuple(fact for fact in facts if fact.sentences)


def compliance(report: JobReport, figures: Survey) -> tuple[Fact, ...]:
    """The compliance appendix."""
    origin = figures.origin
    return (
        Fact("Job", tuple(_job(report))),
        Fact("Models that explained", tuple(_model(model) for model in origin.models) or ("none",)),
        Fact("Models that judged", tuple(_judge(*key, n) for key, n in figures.agreement.judges.items()) or ("none",)),
        Fact("Prompts", tuple(_prompt(prompt) for prompt in origin.prompts) or ("none",)),
        Fact(
            "What prompts held",
            (
                f"{WHAT_IS_SENT[0].upper()}{WHAT_IS_SENT[1:]}. {origin.texts_seen:,} texts were shown to explainers; {origin.texts_held_out:,} were held out "
                "and stand in no prompt of an explainer.",
            ),
        ),
        Fact("Where answers came from", tuple(f"{n:,} {_PLACES.get(reach, reach)}" for reach, n in origin.reaches.items()) or ("no model answered",)),
        Fact("What left the machine", (departure(report, figures),)),
        Fact("Clouds", tuple(_clouds(report)) or ("no prompt of this job was sent to a cloud",)),
        Fact("Other machines", tuple(report.beyond_machine) or ("none is configured",)),
        Fact("Traceability", (_traced(figures),)),
        Fact("People", (_people(figures),)),
        Fact("Second pass", (_second_pass(report, figures),)),
        Fact("Limits", tuple(report.notes) or ("nothing is noted that these numbers cannot know",)),
    )


def _job(report: JobReport) -> Iterator[str]:
    yield f"{report.explain_job_id}, tenant {report.tenant}, revision {report.revision}, {report.status}"
    yield f"of find job {report.find_job_id or 'not named'}; target model {report.target_model or 'not named'}"
    if report.as_of:
        offsets = ", ".join(f"{partition}:{offset}" for partition, offset in sorted(report.as_of.items(), key=lambda item: (len(item[0]), item[0])))
        yield f"outcomes as of offsets {offsets} of explain.explanations"


def _model(model: ModelFigures) -> str:
    places = ", ".join(f"{n:,} {_PLACES.get(reach, reach)}" for reach, n in model.reaches.items())
    digest = f" (digest {model.digest})" if model.digest else " (the server told no digest)"
    return f"{model.model}{digest} at {model.endpoint}, {model.provider}: {counted(model.explained, 'explanation')}; answered {places}"


def _judge(model: str, endpoint: str, version: int, n: int) -> str:
    return f"{model} at {endpoint}, prompts version {version}: {counted(n, 'explanation')}"


def _prompt(prompt: PromptFigures) -> str:
    if prompt.sha256 is None:
        return f"{prompt.template}: {counted(prompt.explained, 'explanation')}, no hash recorded"
    by = f"{counted(prompt.explained, 'explanation')} by {counted(prompt.different, 'different prompt')}"
    return f"{prompt.template}: {by}; sha256 of their hashes in the order of the features {prompt.sha256}"


def _background(version: int, features: int | None, n: int) -> str:
    if not version:
        return f"none ({n:,})"
    return f"version {version}{f', {features} features' if features is not None else ''} ({n:,})"


def _clouds(report: JobReport) -> Iterator[str]:
    for sent in report.sent_to_cloud:
        at = f" ({sent.url})" if sent.url else ""
        yield f"{sent.model} at {sent.endpoint}{at}: {counted(sent.features, 'feature')}, {counted(sent.calls, 'call')}, at most ${sent.usd:,.4f}"


def _traced(figures: Survey) -> str:
    return (
        f"{figures.origin.traceable:,} of {figures.explained:,} explanations name their model, the hash of their prompt and the validator's version, "
        "and have the texts that they rest on; feature_explanations.json holds these for each feature."
    )


def _people(figures: Survey) -> str:
    agreement = figures.agreement
    if not agreement.reviewed:
        return f"No person has reviewed an explanation; {figures.to_review:,} ask for a review."
    reviewed = f"{agreement.reviewed:,} explanations were reviewed by people, {agreement.right:,} of them called right; who, stands with the feature."
    return f"{reviewed} {figures.to_review:,} ask for a review."


def _second_pass(report: JobReport, figures: Survey) -> str:
    second = figures.detours.second
    if report.second_pass is None and not second.ended:
        return "None was made."
    sent = f"{report.second_pass.sent:,} features were sent again, {report.second_pass.refused:,} kept back" if report.second_pass else "It left no counts"
    why = f" ({_counts(second.refused)})" if second.refused else ""
    return f"{sent}{why}; {second.ended:,} have an outcome of it, and in {second.replaced:,} of these the second explanation stands, {second.failed:,} failed."


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())
