"""`rescore`: a job's explanations validated anew, without any call of a model."""

import asyncio
from functools import partial
from pathlib import Path

from rich.text import Text

from mistudio_explain.cli.configured import reached, with_kafka, writing
from mistudio_explain.cli.show import console, plain, print_json
from mistudio_explain.errors import BadInput
from mistudio_explain.kafka.orders import read_jobs
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.replay.rescorer import rescore
from mistudio_explain.replay.rescoring import Tally, is_outdated
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import reading
from mistudio_explain.validation.validator import VALIDATOR_VERSION


def rescore_job(job: str, *, every: bool, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Send a job's drafts again; 1 when a draft could not be made again."""
    settings = with_kafka("rescore", config=config, profile=profile)
    tally = asyncio.run(_rescore(settings, job, every=every))
    left = sum(tally.left.values())
    if as_json:
        print_json({"explain_job_id": job, "sent": tally.sent, "current": tally.current, "left": dict(tally.left)})
        return 1 if left else 0
    told = f"{job}: {tally.sent} explanations are scored again by the validation service; no model is asked"
    current = f"; {tally.current} are up to date (--all scores these too)" if tally.current else ""
    console().print(Text(plain(told + current)))
    for why, count in tally.left.items():
        console().print(Text(plain(f"{count} stay as they are: {why}"), style="yellow"))
    return 1 if left else 0


async def _rescore(settings: Settings, job: str, *, every: bool) -> Tally:
    clients = await reached(settings)
    known = (await read_jobs(clients)).get(job)
    if known is not None and known.control is not None and known.control.action in ("delete", "deleted"):
        raise BadInput(f"job {job} {known.closed}; there is nothing to score again")
    with reading(settings.store) as store:
        if store.state(job) is None:
            raise BadInput(f"the store {settings.store.url} has no job {job!r}; it has {', '.join(store.jobs(20)) or 'none'}")
    async with writing(settings, clients) as producer:
        return await rescore(
            settings, job, (lambda _: True) if every else partial(is_outdated, validator_version=VALIDATOR_VERSION), partial(publish, producer)
        )
