"""One feature now: its answer as the model writes it."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from mistudio_explain.errors import BadInput, ExplainError, MalformedEvent, Unreachable
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome, TokenChunk
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.model import Id
from mistudio_explain.events.topics import EXPLANATIONS, TOKENS
from mistudio_explain.gateway import sse
from mistudio_explain.gateway.access import Writer
from mistudio_explain.gateway.feed import Listener, Subject
from mistudio_explain.gateway.once import Once
from mistudio_explain.gateway.parts import Gateway, Here
from mistudio_explain.gateway.problems import Problem, problem_of
from mistudio_explain.intake.asking import Piece, Wishes, answer_of, asked, asked_for, event_of
from mistudio_explain.intake.document import Document
from mistudio_explain.intake.single import feature_in

log = structlog.get_logger(__name__)

router = APIRouter(tags=["live"])

_POSTED = Path("feature")  # what stands for a file's name in messages
_HEARTBEAT_S = 15.0
_EXAMPLE: dict[str, Any] = {
    "feature": {
        "feature_id": 348,
        "coherence_score": 0.62,
        "top_activations": [{"text": "in the morning", "activation_value": 9.5}, {"text": "by the evening", "activation_value": 8.1}],
        "pattern_keywords": ["morning", "evening"],
    },
    "find_job": "find_20240115",
    "target_model": "gpt2",
}


class Question(BaseModel):
    """A feature that somebody wants explained now."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    feature: dict[str, Any] = Field(description="The feature, in either of miStudioFind's shapes.")
    find_job: Id | None = Field(default=None, description="The find job that it belongs to: explanations are compared with that job's other features.")
    target_model: str | None = Field(default=None, min_length=1, max_length=400, description="The model that the feature belongs to.")
    route: str | None = Field(default=None, min_length=1, max_length=200, description="Explainer model to use instead of what the routing policy says.")
    prompt: str | None = Field(default=None, min_length=1, max_length=200, description="Prompt template, name@version.")
    candidates: int | None = Field(default=None, ge=1, le=10, description="Answers to ask for, the best of which is taken.")
    timeout_s: float = Field(default=120.0, gt=0, le=600, description="Longest wait for the explanation, seconds.")


@router.post(
    "/explain",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}, sse.MEDIA_TYPE: {"schema": {"type": "string"}}}}},
)
async def explain_now(request: Request, gateway: Here, caller: Writer, once: Once, question: Annotated[Question, Body()]) -> Response:
    """Explain one feature through the express lane. The outcome as JSON; as `text/event-stream`, the pieces of the answer before it.

    A client that goes cancels the question, which ends the call of the model.
    """
    feature = _feature(gateway, question, caller.tenant)
    if not gateway.stream.has_started or gateway.live.feed.position is None:
        raise Unreachable(gateway.live.away_because() or "the topics are not read yet; try again")
    if gateway.live.feed.clients >= gateway.settings.gateway.streams:
        raise Problem(503, "too-many-streams", "as many clients listen as gateway.streams allows; try again later")
    wants_stream = sse.MEDIA_TYPE in request.headers.get("accept", "")
    before = await once.before(question.model_dump_json())
    if before is not None:
        return sse.EventStream(_told_again(before)) if wants_stream else before
    if wants_stream:
        return sse.EventStream(_events(feature, _kept(once, _answer(gateway, feature, question.timeout_s))))
    answering = asyncio.create_task(_outcome(_kept(once, _answer(gateway, feature, question.timeout_s))))
    gone = asyncio.create_task(sse.gone(request.receive))
    try:
        await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise Problem(400, "cut-off", "the client left before the answer came, so the question was cancelled")
        return answering.result()
    finally:
        for task in (answering, gone):
            task.cancel()
        await asyncio.gather(answering, gone, return_exceptions=True)


def _feature(gateway: Gateway, question: Question, tenant: str) -> FeatureFound:
    try:
        document = Document(_POSTED, orjson.dumps(question.feature))
    except orjson.JSONEncodeError as error:  # Python's JSON reads more than JSON is
        raise BadInput(f"body.feature: holds what no event can hold ({error}): integers have 64 bits, and texts no halves of characters") from error
    found = feature_in(document, find_job_id=question.find_job, target_model=question.target_model, event_bytes=gateway.settings.limits.event_bytes)
    wishes = Wishes(question.route, question.prompt, question.candidates)
    return asked_for(found, wishes, datetime.fromtimestamp(gateway.now_ms() / 1000, UTC), secrets.token_hex(4), tenant=tenant)


async def _answer(gateway: Gateway, feature: FeatureFound, timeout_s: float) -> AsyncGenerator[Piece | FeatureOutcome]:
    """The pieces of an answer, and its outcome. Raises Problem when that takes too long."""
    subjects = [Subject(TOKENS, event_of(feature)), Subject(EXPLANATIONS, feature.effective_request.explain_job_id)]
    with gateway.live.feed.listening(subjects) as listener:
        async with asked(gateway.stream.producer, feature, gateway.now_ms), aclosing(answer_of(_sources(listener, timeout_s))) as answer:
            async for said in answer:
                yield said


async def _kept(once: Once, answers: AsyncGenerator[Piece | FeatureOutcome]) -> AsyncGenerator[Piece | Response]:
    """An answer, whose outcome is kept for whoever asks the same once more."""
    async with once.giving() as keep, aclosing(answers):
        async for said in answers:
            if isinstance(said, FeatureOutcome):
                response = Response(orjson.dumps(said.model_dump(mode="json", exclude_none=True)), media_type="application/json")
                await keep(response)
                yield response
            else:
                yield said


async def _outcome(answers: AsyncGenerator[Piece | Response]) -> Response:
    async with aclosing(answers):
        async for said in answers:
            if isinstance(said, Response):
                return said
    raise AssertionError("an answer ends with an outcome")


async def _told_again(before: Response) -> AsyncGenerator[bytes]:
    yield sse.event("outcome", bytes(before.body))


async def _sources(listener: Listener, timeout_s: float) -> AsyncGenerator[TokenChunk | FeatureOutcome]:
    until = asyncio.get_running_loop().time() + timeout_s
    while (left := until - asyncio.get_running_loop().time()) > 0 and listener.ended is None:
        for entry in await listener.take(left):
            try:
                if entry.value is not None:
                    yield decode(TokenChunk, entry.value) if entry.topic == TOKENS else decode(FeatureOutcome, entry.value)
            except MalformedEvent as error:  # which is for its topic's service to give up
                log.warning("explain.unreadable", topic=entry.topic, offset=entry.offset, error=type(error).__name__)
    raise Problem(
        504, "no-answer-in-time", f"no explanation within {timeout_s:g} s: the model may be loading or busy, or nobody serves it; timeout_s waits longer"
    )


async def _events(feature: FeatureFound, answers: AsyncGenerator[Piece | Response]) -> AsyncGenerator[bytes]:
    yield sse.event("start", {"explain_job_id": feature.effective_request.explain_job_id, "feature_key": feature.feature_key})
    coming = asyncio.ensure_future(anext(answers, None))
    try:
        while True:
            if not (await asyncio.wait((coming,), timeout=_HEARTBEAT_S))[0]:
                yield sse.heartbeat(None)
                continue
            match coming.result():
                case Piece() as piece if piece.text:
                    yield sse.event("piece", {"beginning": piece.beginning, "text": piece.text})
                case Response() as response:
                    yield sse.event("outcome", bytes(response.body))
                    return
            coming = asyncio.ensure_future(anext(answers, None))
    except ExplainError as error:
        yield sse.event("failed", {"why": str(problem_of(error))})
    finally:
        coming.cancel()  # where an answer is still waited for, this cancels the question
        await asyncio.gather(coming, return_exceptions=True)
        await answers.aclose()
