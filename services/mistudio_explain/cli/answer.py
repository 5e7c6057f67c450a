"""What a person sees of one feature's explanation: its pieces as they come, then how far to believe it, and on what that rests."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from mistudio_explain.cli.show import console, harmless, plain, print_json
from mistudio_explain.cli.unfolding import Unfolding
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.feature import Activation, FeatureFound

_TEXTS = 4  # shown of the seen and of the held-out texts
_TEXT_CHARACTERS = 160
DEMONSTRATION = "That is a demonstration model of 135M parameters: its explanation shows the machinery and is not to be trusted."


class Answering:
    """Shows an answer while it is made, and in the end its outcome; with `as_json` as one JSON object a line."""

    def __init__(self, *, stream: bool, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._try: int | None = None
        self._shown = 0
        self._asked: str | None = None
        self._unfolding = Unfolding()

    def asked(self, model: str, endpoint: str, is_demonstration: bool) -> None:
        """Say which model is asked."""
        self._asked = f"{model} at {endpoint}"
        self._say({"event": "start", "model": model, "endpoint": endpoint}, f"asking {plain(self._asked)}")
        if is_demonstration and not self._as_json:
            console(stderr=True).print(Text(DEMONSTRATION, style="yellow"))

    def sent_to(self, servers: str, feature: FeatureFound) -> None:
        """Say that the services are asked, through Kafka; which model answers is theirs to choose."""
        job = feature.effective_request.explain_job_id
        self._asked = f"the services of Kafka at {servers}"
        self._say({"event": "start", "kafka": servers, "explain_job_id": job}, f"asking {self._asked}, as the job {job}")

    async def piece(self, beginning: int, text: str) -> None:
        """Show a piece of an answer; another `beginning` starts the answer anew."""
        if not text:
            return
        anew = self._try is not None and beginning != self._try
        self._try = beginning
        self._shown += len(text)
        if not self._stream:
            return
        if self._as_json:
            print_json({"event": "piece", "beginning": beginning, "text": text})
            return
        if anew:
            self._unfolding = Unfolding()
            sys.stdout.write("\n(the answer begins anew)\n")
        sys.stdout.write(harmless(self._unfolding.take(text)))
        sys.stdout.flush()

    def broken_off(self) -> None:
        """End the line that pieces were shown on."""
        if self._stream and self._shown and not self._as_json:
            sys.stdout.write("\n")
            sys.stdout.flush()

    def how_far(self) -> str:
        """How far the answer got, for whoever gives up waiting."""
        if self._asked is None:
            return "nobody was asked yet"
        if self._shown:
            return f"{self._asked} gave {self._shown} characters of an answer"
        return f"{self._asked} gave no piece of an answer; the model may be loading or busy, or nobody serves it"

    def outcome(self, outcome: FeatureOutcome) -> None:
        """Show what came of it."""
        if self._as_json:
            print_json({"event": "outcome", **outcome.model_dump(mode="json", exclude_none=True)})
            return
        self.broken_off()
        console().print(Group(*told(outcome)))

    def _say(self, event: dict[str, Any], line: str) -> None:
        if self._as_json:
            print_json(event)
        else:
            console(stderr=True).print(Text(line))


def told(outcome: FeatureOutcome) -> Iterator[RenderableType]:
    """An outcome for a person, line by line."""
    subject = outcome.subject
    yield Text(plain(f"feature {subject.feature_key} of {subject.find_job_id}"), style="bold")
    if outcome.outcome is not OutcomeKind.EXPLAINED:
        yield Text(plain(f"{outcome.outcome.value}: {outcome.reason or 'no reason is known'}"), style="red")
        return
    if outcome.answer is not None:
        for name, said in outcome.answer.model_dump(exclude_none=True).items():
            yield Text(f"{name}: {plain(str(said))}")
    yield Text(_verdict(outcome), style="bold")
    yield from (Text(line) for line in _scores(outcome))
    yield from _safety(outcome)
    if outcome.evidence is not None:
        yield from _texts("texts that the model saw", outcome.evidence.seen)
        yield from _texts("texts kept from it", outcome.evidence.held_out)


def _verdict(outcome: FeatureOutcome) -> str:
    verdict = outcome.pattern_verification.value if outcome.pattern_verification else "not verified"
    found = outcome.accuracy
    if found is None:
        return f"{verdict}: {plain(outcome.unavailable.get('accuracy', 'no accuracy could be computed'))}"
    span = f" ({found.low:.2f} to {found.high:.2f})" if found.low is not None and found.high is not None else ""
    parts = [f"; {name} {value:.2f}" for name, value in (("seen texts", found.seen), ("held-out texts", found.held_out)) if value is not None]
    return f"{verdict}, accuracy {found.p:.2f}{span} on {found.n} texts{''.join(parts)}"


def _scores(outcome: FeatureOutcome) -> Iterator[str]:
    if outcome.accuracy is not None:
        others = "stored features of other jobs" if outcome.background_version == 0 else f"{outcome.background_features} other features of its find job"
        yield f"accuracy: the probability that the explanation belongs to this feature rather than to another; compared with {others}"
    scores = [("quality", outcome.quality_score), ("confidence", outcome.confidence)]
    known = [f"{name} {value:.2f}" for name, value in scores if value is not None]
    made = outcome.generation
    by = [f"by {plain(made.model)} at {plain(made.endpoint)}{' (kept answer)' if made.cached else f' in {made.latency_s:.1f} s'}"] if made else []
    yield ", ".join([*known, *([f"relevance {outcome.business_relevance}"] if outcome.business_relevance else []), *by])
    if outcome.flags:
        yield plain(f"flags: {', '.join(outcome.flags)}")
    yield from (plain(caveat) for caveat in outcome.caveats)
    if outcome.review_reason:
        yield plain(f"a person should look: {outcome.review_reason}")


def _safety(outcome: FeatureOutcome) -> Iterator[Text]:
    if outcome.safety is None:
        return
    of = f" ({', '.join(outcome.safety.categories)})" if outcome.safety.categories else ""
    yield Text(plain(f"safety: {outcome.safety.assessment}{of}"), style="" if outcome.safety.assessment == "safe" else "red")
    for found in outcome.safety.evidence[:_TEXTS]:
        where = "the explanation" if found.where == "explanation" else f"text {(found.index or 0) + 1}"
        yield Text(plain(f"  {found.category} in {where}: {', '.join(found.words)}"))


def _texts(title: str, texts: Sequence[Activation]) -> Iterator[Text]:
    if not texts:
        return
    yield Text(f"{title}: {len(texts)}")
    for activation in texts[:_TEXTS]:
        said = plain(activation.text[: 4 * _TEXT_CHARACTERS])
        yield Text(f"  {said if len(said) <= _TEXT_CHARACTERS else said[:_TEXT_CHARACTERS] + ' ...'}")
    if len(texts) > _TEXTS:
        yield Text(f"  ... and {len(texts) - _TEXTS} more")
