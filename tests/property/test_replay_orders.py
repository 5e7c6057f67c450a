"""Which replays are run, whatever else stands in the topic of jobs."""

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.events.job import ControlPart, JobEvent, ReplayPart, RequestPart, SealedPart
from mistudio_explain.replay.stage import Orders

jobs = st.sampled_from(["a", "b"])
revisions = st.integers(0, 2)
parts = st.one_of(
    st.builds(lambda: {"request": RequestPart(find_job_id="f")}),
    st.builds(lambda file: {"replay": ReplayPart(from_job="f", from_file=file)}, st.booleans()),
    st.builds(lambda: {"sealed": SealedPart(expected=1)}),
    st.builds(lambda action: {"control": ControlPart(action=action)}, st.sampled_from(["cancel", "reopen", "delete", "deleted"])),
)
events = st.builds(lambda job, revision, part: JobEvent(explain_job_id=job, revision=revision, at_ms=0, **part), jobs, revisions, parts)
records = st.lists(st.tuples(events, st.booleans()), max_size=12)


@given(records)
def test_an_order_is_run_exactly_when_it_is_asked_for_and_neither_sealed_nor_taken_back(log: list[tuple[JobEvent, bool]]) -> None:
    orders, latest = Orders(), {}
    for offset, (event, taken_back) in enumerate(log):
        orders.take(event.key, None if taken_back else event, offset)
        latest[event.key] = None if taken_back else (offset, event)

    def part(job: str, name: str) -> JobEvent | None:
        found = latest.get(f"{job}|{name}")
        return found[1] if found else None

    expected = []
    for job in ("a", "b"):
        replay, sealed, control = part(job, "replay"), part(job, "sealed"), part(job, "control")
        if replay is None or replay.replay is None or replay.replay.from_file or part(job, "request") is None:
            continue
        is_sealed = sealed is not None and sealed.revision >= replay.revision
        is_stopped = control is not None and control.control is not None and control.control.action != "reopen" and control.revision >= replay.revision
        if not is_sealed and not is_stopped:
            found = latest[f"{job}|replay"]
            assert found is not None
            expected.append((found[0], job))
    assert [(order.offset, order.event.explain_job_id) for order in orders.open()] == sorted(expected)
