"""`score --judge`: has scored lines tested by a second model, and writes its answers as delphi does."""

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import orjson

from mistudio_explain.assembly import opened_endpoints
from mistudio_explain.cli.score_lines import Scored, Scoring
from mistudio_explain.errors import BadInput, BadSettings
from mistudio_explain.events.explanation import Answer, FeatureOutcome, OutcomeKind
from mistudio_explain.intake.pairs import PairLine
from mistudio_explain.judging.delphi import FOLDERS, delphi_name, delphi_scores
from mistudio_explain.judging.judge import IN_FLIGHT_PER_SLOT, Judge, Judged, judge_feature
from mistudio_explain.judging.stage import Kind
from mistudio_explain.settings import Settings
from mistudio_explain.validation.offline import Scorer, draft_of


@dataclass(slots=True)
class JudgeBench:
    """A judge for the lines of a file, what it cost so far, and where its answers go (delphi's folders; None: nowhere)."""

    judge: Judge
    scores: Path | None
    _runner: asyncio.Runner
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    _names: set[str] = field(default_factory=set)

    @property
    def cost(self) -> str:
        """What was asked so far, in words."""
        demonstration = "; the demonstration model is no judge: its answers show the machinery" if self.judge.endpoints.is_demonstration else ""
        return f"judge: {self.calls} calls, {self.tokens_in} tokens in, {self.tokens_out} out{demonstration}"

    def judged(self, chunks: Iterable[Sequence[Scored]], scoring: Scoring) -> Iterator[list[Scored]]:
        """The lines with `judge` filled in; one with an error stays as it is."""
        scorer = scoring.scorer()
        for chunk in chunks:
            yield self._runner.run(self._chunk(chunk, scoring, scorer))

    async def _chunk(self, chunk: Sequence[Scored], scoring: Scoring, scorer: Scorer) -> list[Scored]:
        places = asyncio.Semaphore(max(1, int(self.judge.endpoints.slots * IN_FLIGHT_PER_SLOT)))

        async def one(scored: Scored) -> Scored:
            if scored.result == "error":
                return scored
            async with places:
                return await self._line(scored, scoring, scorer)

        return list(await asyncio.gather(*(one(scored) for scored in chunk)))

    async def _line(self, scored: Scored, scoring: Scoring, scorer: Scorer) -> Scored:
        pair = PairLine.of(scored.line, 1, scoring.file).pair()
        fields: dict[str, Any] = orjson.loads(scored.line)
        draft = draft_of(pair.feature, pair.explanation, scorer)
        outcome = FeatureOutcome(
            outcome=OutcomeKind.EXPLAINED,
            subject=draft.subject,
            evidence=draft.evidence,
            answer=Answer(pattern=pair.explanation),
            explanation=pair.explanation,
            pattern_verification=fields.get("pattern_verification"),
        )
        judged = await judge_feature(outcome, scoring.backgrounds.get(pair.feature.find_job_id), self.judge)
        made = judged.judgement
        self.calls, self.tokens_in, self.tokens_out = self.calls + made.calls, self.tokens_in + made.tokens_in, self.tokens_out + made.tokens_out
        self._keep(pair.feature.find_job_id, pair.feature.feature_id, pair.feature.source_id, judged)
        return Scored(orjson.dumps(fields | {"judge": made.model_dump()}), scored.result)

    def _keep(self, job: str, feature_id: str, source_id: str | None, judged: Judged) -> None:
        """Write the answers; a feature's further explanations go to files of their own, told apart by a number before `_latent`."""
        if self.scores is None or not judged.answers:
            return
        name = first = delphi_name(f"{job}.{source_id}" if source_id else job, feature_id, None)
        number = 1
        while name in self._names:
            number += 1
            name = first.replace("_latent", f".{number}_latent")
        self._names.add(name)
        try:
            for kind, answers in judged.answers.items():
                folder = self.scores / FOLDERS[kind]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(orjson.dumps(delphi_scores(answers)))
        except OSError as error:
            raise BadInput(f"--judge-scores {self.scores}: cannot be written: {error}") from error


@contextmanager
def judge_bench(kinds: str, scores: Path | None, settings: Settings) -> Iterator[JudgeBench]:
    """Open the endpoints of the settings for a judge of some kinds, such as `detection,fuzzing`.

    Raises BadSettings for an unknown kind, Unreachable when an endpoint does not answer.
    """
    chosen = settings.judge.model_copy(update={"kinds": kinds_of(kinds)})
    with asyncio.Runner() as runner:
        rng = random.Random()  # noqa: S311  (spreads retries in time)
        opening = AsyncExitStack()
        endpoints = runner.run(opening.enter_async_context(opened_endpoints(settings, rng)))
        try:
            yield JudgeBench(Judge(endpoints, chosen, settings.llm, rng), scores, runner)
        finally:
            runner.run(opening.aclose())


def kinds_of(listed: str) -> tuple[Kind, ...]:
    """The kinds named in a comma-separated list. Raises BadSettings for others."""
    names = tuple(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    known: tuple[Kind, ...] = get_args(Kind)
    if not names or set(names) - set(known):
        raise BadSettings(f"--judge {listed!r}: it takes {' or '.join(known)}, or both with a comma between them")
    return tuple(kind for kind in known if kind in names)
