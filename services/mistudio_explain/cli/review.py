"""`review` and `reviews`: what people say of explanations."""

import asyncio
import getpass
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from rich.text import Text

from mistudio_explain.cli.configured import reached, with_kafka, writing
from mistudio_explain.cli.known_jobs import find_jobs
from mistudio_explain.cli.letter_text import moment
from mistudio_explain.cli.show import console, plain, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import FeatureOutcome, FeatureReviewed
from mistudio_explain.kafka.orders import known_job
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.kafka.reviews import read_reviews
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import read_outcomes, reading, store_exists
from mistudio_explain.store.reviews import is_of_a_feature


@dataclass(frozen=True, slots=True)
class Said:
    """The options of `review`."""

    job: str
    feature: str
    verdict: str
    corrected: str | None
    who: str | None
    why: str | None


def review_feature(said: Said, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Publish a person's verdict; raises BadInput for a job or a feature that is not there."""
    settings = with_kafka("review", config=config, profile=profile)
    event, is_checked = asyncio.run(_review(settings, said))
    if as_json:
        print_json(event.model_dump(mode="json") | {"feature_checked": is_checked})
        return 0
    unchecked = "" if is_checked else f"; the store {settings.store.url} knows nothing of this job, so nobody checked that the feature is there"
    console().print(Text(plain(f"{event.who} says that the explanation of {event.feature_key} in {event.explain_job_id} is {event.verdict}{unchecked}")))
    return 0


def list_reviews(job: str, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the newest review of each feature of a job, beside the verdict that the texts gave."""
    settings = prepare(config=config, profile=profile, quiet=True)
    known_job(asyncio.run(find_jobs(settings)).jobs, job)
    reviews, outcomes = _reviews(settings, job)
    if as_json:
        for review in reviews:
            verification = _verification(outcomes.get(review.feature_key))
            print_json(review.model_dump(mode="json") | {"pattern_verification": verification})
        return 0
    if reviews:
        columns = ("feature", "people", "texts", "who", "when (UTC)", "what they say")
        rows = [_row(review, outcomes.get(review.feature_key)) for review in reviews]
        console().print(table(None, columns, rows, wrap={"feature": 24, "what they say": None}))
    console().print(Text(plain(f"{len(reviews) or 'no'} review{'' if len(reviews) == 1 else 's'} of {job}")))
    return 0


async def _review(settings: Settings, said: Said) -> tuple[FeatureReviewed, bool]:
    job = known_job((await find_jobs(settings)).jobs, said.job)
    if job.closed is not None and job.control is not None and job.control.action in ("delete", "deleted"):
        raise BadInput(f"job {said.job} {job.closed}: nothing of it is kept, and no review would be")
    event = _event(said)
    is_checked = await asyncio.to_thread(_is_of_a_feature, settings, event)
    async with writing(settings, await reached(settings)) as producer:
        await publish(producer, [outgoing(event)])
    return event, is_checked


def _event(said: Said) -> FeatureReviewed:
    fields = {
        "explain_job_id": said.job,
        "feature_key": said.feature,
        "verdict": said.verdict,
        "corrected": said.corrected,
        "who": said.who or _login(),
        "why": said.why,
        "at_ms": int(time.time() * 1000),
    }
    try:
        return FeatureReviewed.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"--{first['loc'][0]} {first['input']!r}: {first['msg']}") from error


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise BadInput("this system does not tell who you are; say it with --who") from error


def _is_of_a_feature(settings: Settings, event: FeatureReviewed) -> bool:
    if not store_exists(settings.store):
        return False
    with reading(settings.store) as store:
        return is_of_a_feature(store, event)


def _reviews(settings: Settings, job: str) -> tuple[Sequence[FeatureReviewed], dict[str, FeatureOutcome]]:
    """The reviews, from the topic where a Kafka is configured, and the outcomes that the store has of their features."""
    reviews: list[FeatureReviewed] = []
    outcomes: dict[str, FeatureOutcome] = {}
    if settings.kafka.bootstrap_servers is not None:
        reviews = asyncio.run(_from_topic(settings, job))
    if store_exists(settings.store):
        if settings.kafka.bootstrap_servers is None:
            with reading(settings.store) as store:
                reviews = list(store.reviews(job))
        wanted = {review.feature_key for review in reviews}
        outcomes = {outcome.subject.feature_key: outcome for outcome in read_outcomes(settings.store, job) if outcome.subject.feature_key in wanted}
    return reviews, outcomes


async def _from_topic(settings: Settings, job: str) -> list[FeatureReviewed]:
    return await read_reviews(await reached(settings), job)


def _verification(outcome: FeatureOutcome | None) -> str | None:
    return outcome.pattern_verification.value if outcome is not None and outcome.pattern_verification is not None else None


def _row(review: FeatureReviewed, outcome: FeatureOutcome | None) -> tuple[str, ...]:
    words = [*([f"should say: {review.corrected}"] if review.corrected else []), *([review.why] if review.why else [])]
    return review.feature_key, review.verdict, _verification(outcome) or "-", review.who, moment(review.at_ms), "; ".join(words) or "-"
