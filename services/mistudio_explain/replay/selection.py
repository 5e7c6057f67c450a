"""Looks up in the store which job a replay is of, and which of its features are chosen."""

from dataclasses import dataclass

from mistudio_explain.aggregation.stage import JobState
from mistudio_explain.errors import BadInput, either
from mistudio_explain.events.identity import default_explain_job_id
from mistudio_explain.events.job import JobPart, ReplayPart, RequestPart
from mistudio_explain.replay.stage import Place, Selection, needs_outcomes, select
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.jobs import read_outcomes, reading


@dataclass(frozen=True, slots=True)
class Replayed:
    """The job that is replayed, as the store knows it."""

    state: JobState
    request: RequestPart | None


def replayed_job(settings: StoreSettings, find_job_id: str, of: str | None) -> Replayed:
    """Find the explain job whose features are replayed: `of`, else the find job's default job, else its only one.

    Raises BadInput when there is none, more than one to choose from, or `of` is about another find job.
    """
    with reading(settings) as store:
        jobs = store.jobs_of(find_job_id)
        wanted = of or _natural(find_job_id, jobs)
        state = store.state(wanted)
        if state is None:
            known = ", ".join(jobs) or f"none of {find_job_id}, only {', '.join(store.jobs(20)) or 'nothing'}"
            raise BadInput(
                either(f"the store {settings.url} has no job {wanted!r}; it has {known}", f"nothing of {wanted} is stored yet; ask again in a moment")
            )
        if state.find_job_id != find_job_id:
            raise BadInput(f"{wanted} explains features of {state.find_job_id}, not of {find_job_id}; name that with --from-job")
        asked = store.parts(wanted).get(JobPart.REQUEST)
        return Replayed(state, asked.request if asked else None)


def _natural(find_job_id: str, jobs: list[str]) -> str:
    default = default_explain_job_id(find_job_id)
    if default in jobs or not jobs:
        return default
    if len(jobs) > 1:
        raise BadInput(f"{find_job_id} was explained by {', '.join(jobs)}; say which of them with --of")
    return jobs[0]


def selection_of(settings: StoreSettings, part: ReplayPart) -> Selection:
    """Choose the features of a replay; reads outcomes only where they are needed. Raises BadInput, also for a part without `of` that is ambiguous."""
    state = replayed_job(settings, part.from_job, part.of).state
    # features that failed before they were admitted are found by their outcomes alone
    complete = needs_outcomes(part) or state.outcomes > state.admitted
    with reading(settings) as store:
        sources = ((feature, Place(topic, partition, offset)) for feature, topic, partition, offset in store.sources(state.explain_job_id))
        return select(part, sources, read_outcomes(settings, state.explain_job_id) if complete else None)
