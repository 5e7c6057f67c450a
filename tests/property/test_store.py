"""The aggregator's rows: the same truth in whatever order records arrive, however often."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mistudio_explain.aggregation.stage import Counters
from mistudio_explain.errors import BadSettings, Unreachable
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import Accuracy, Answer, Category, FeatureOutcome, FeatureReviewed, OutcomeKind, Subject, Tier, Verification
from mistudio_explain.events.job import Admission, ControlPart, JobEvent, ReplayPart, RequestPart, SealedPart, SecondPassPart
from mistudio_explain.events.topics import EXPLANATIONS, JOBS, REVIEWS
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store import files, takeover
from mistudio_explain.store.jobs import Change, JobStore, open_store, read_outcomes, reading
from mistudio_explain.store.rows import Foreign
from mistudio_explain.store.seat import Seat
from mistudio_explain.store.tables import make_tables

JOB = "explain_1"


def outcome(feature: int, kind: OutcomeKind, revision: int, p: float) -> FeatureOutcome:
    explained = kind is OutcomeKind.EXPLAINED
    return FeatureOutcome(
        outcome=kind,
        reason=None if explained else "because",
        subject=Subject(
            explain_job_id=JOB, revision=revision, find_job_id="find_1", target_model="m", feature_id=str(feature), feature_key=str(feature), tier=Tier.GOOD,
            category=Category.TECHNICAL, category_source="given",
        ),
        answer=Answer(pattern="words") if explained else None,
        quality_score=p if explained else None,
        accuracy=Accuracy(p=p, n=3, basis="seen") if explained else None,
        pattern_verification=Verification.CONFIRMED if explained and p > 0.5 else None,
    )  # fmt: skip


def change(event: FeatureOutcome | Admission | JobEvent | None, *, key: str = "", at: int = 1000) -> Change:
    return Change(event, None if event is None else encode(event), key, at)


_OUTCOMES = st.lists(st.builds(outcome, st.integers(0, 5), st.sampled_from(list(OutcomeKind)), st.integers(0, 2), st.floats(0, 1)), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(outcomes=_OUTCOMES, choices=st.data())
def test_counters_and_winners_are_the_same_in_every_order_with_every_repetition(outcomes: list[FeatureOutcome], choices: st.DataObject) -> None:
    results = []
    for arrivals in (outcomes, choices.draw(st.permutations(outcomes + outcomes))):
        with TemporaryDirectory() as folder:
            at = StoreSettings(url=f"sqlite:///{folder}/explain.db")
            with open_store(at) as store:
                for i, arrival in enumerate(arrivals):
                    store.apply([change(arrival)], {("t", 0): i + 1})
                state = store.state(JOB)
                assert state is not None
                results.append((state.counters, state.revision, [encode(winner) for winner in read_outcomes(at, JOB)]))
    assert results[0] == results[1]
    counters: Counters = results[0][0]
    assert counters.explained + counters.skipped + counters.failed == len({o.subject.feature_key for o in outcomes})


def test_a_loser_that_lands_last_makes_the_winner_go_out_again(store: JobStore) -> None:
    winner, loser = outcome(1, OutcomeKind.EXPLAINED, 0, 0.9), outcome(1, OutcomeKind.FAILED, 2, 0.0)
    store.apply([change(winner)], {})
    store.apply([change(winner)], {})
    assert store.outbox() == []
    store.apply([change(loser)], {})
    (again,) = store.outbox()
    assert (again.topic, again.key, again.body, again.at_ms) == (EXPLANATIONS, "explain_1|1", encode(winner), 1000)
    store.sent([again])
    assert store.outbox() == []


def test_what_covers_a_record_in_a_compacted_topic_makes_it_go_out_again_if_it_is_known(store: JobStore) -> None:
    winner = outcome(1, OutcomeKind.EXPLAINED, 0, 0.9)
    store.apply([change(winner), Change(Foreign(), None, f"{JOB}|2", 2000)], {})
    assert store.outbox() == []
    store.apply([Change(Foreign(), None, f"{JOB}|1", 3000), Change(Foreign(), None, f"{JOB}|request", 3000, JOBS)], {})
    (again,) = store.outbox()
    assert (again.topic, again.key, again.body, again.at_ms) == (EXPLANATIONS, f"{JOB}|1", encode(winner), 1000)


def review(feature: object, verdict: str, *, who: str = "ada", at: int = 1000) -> Change:
    event = FeatureReviewed.model_validate({"explain_job_id": JOB, "feature_key": str(feature), "verdict": verdict, "who": who, "at_ms": 5})
    return Change(event, encode(event), f"{JOB}|{feature}", at, REVIEWS)


def reviewed(store: JobStore) -> tuple[int, int]:
    state = store.state(JOB)
    assert state is not None
    return state.reviewed, state.agreed


def test_the_review_that_was_written_last_is_attached_and_counted(store: JobStore, at: StoreSettings) -> None:
    store.apply([change(outcome(feature, OutcomeKind.EXPLAINED, 0, 0.9)) for feature in (1, 2)], {})
    store.apply([change(outcome(3, OutcomeKind.FAILED, 0, 0.0)), review(1, "wrong", at=9000)], {})
    assert reviewed(store) == (1, 0)
    store.apply([review(1, "right", who="bob"), review(2, "unclear"), review(3, "right"), review(4, "right")], {})
    assert reviewed(store) == (2, 1)  # a failed feature and an unknown one have nothing to agree with
    attached = {each.subject.feature_key: each.review for each in read_outcomes(at, JOB)}
    assert {key: each and (each.verdict, each.who) for key, each in attached.items()} == {"1": ("right", "bob"), "2": ("unclear", "ada"), "3": ("right", "ada")}
    store.apply([Change(None, None, f"{JOB}|1", 2000, REVIEWS)], {})
    assert reviewed(store) == (1, 0)


@pytest.mark.parametrize(
    ("verification", "agreeing"),
    [(Verification.CONFIRMED, "right"), (Verification.PARTIAL, "partly"), (Verification.CONTRADICTED, "wrong"), (Verification.UNVERIFIABLE, None)],
)
def test_a_review_agrees_with_the_verification_that_says_the_same(store: JobStore, verification: Verification, agreeing: str | None) -> None:
    store.apply([change(outcome(1, OutcomeKind.EXPLAINED, 0, 0.9).model_copy(update={"pattern_verification": verification}))], {})
    for verdict in ("right", "partly", "wrong", "unclear"):
        store.apply([review(1, verdict)], {})
        assert reviewed(store) == (1, int(verdict == agreeing))


def test_a_review_makes_its_job_due_for_a_report_once_and_changes_no_time_of_it(store: JobStore) -> None:
    store.apply([change(outcome(1, OutcomeKind.EXPLAINED, 0, 0.9))], {})
    ((_, dirty, _),) = store.due()
    store.reported(JOB, dirty, "completed")
    before = store.state(JOB)
    store.apply([review(1, "right", at=99_000)], {})
    ((_, dirty, _),) = store.due()
    store.reported(JOB, dirty, "completed")
    store.apply([review(1, "right", at=99_000)], {})
    assert store.due() == []
    after = store.state(JOB)
    assert before is not None
    assert after is not None
    assert (after.first_ms, after.last_ms, after.heard_ms) == (before.first_ms, before.last_ms, before.heard_ms)


def test_what_covers_a_review_in_its_topic_makes_it_go_out_again(store: JobStore) -> None:
    store.apply([review(1, "right"), Change(Foreign(), None, f"{JOB}|1", 2000, REVIEWS), Change(Foreign(), None, f"{JOB}|2", 2000, REVIEWS)], {})
    (again,) = store.outbox()
    assert (again.topic, again.key, again.body, again.at_ms) == (REVIEWS, f"{JOB}|1", review(1, "right").body, 1000)


def test_a_review_of_a_deleted_job_is_taken_back_and_one_of_a_reopened_job_stays(store: JobStore) -> None:
    def control(action: str, revision: int) -> Change:
        return change(JobEvent(explain_job_id=JOB, revision=revision, at_ms=0, control=ControlPart(action=action)))  # type: ignore[arg-type]

    store.apply([change(outcome(1, OutcomeKind.EXPLAINED, 0, 0.9)), review(1, "right"), control("delete", 0)], {})
    assert set(store.features(JOB)) == {"1"}
    store.forget(JOB)
    assert not store.has_rows(JOB)
    store.apply([review(1, "wrong")], {})
    (taken_back,) = store.outbox()
    assert (taken_back.topic, taken_back.key, taken_back.body) == (REVIEWS, f"{JOB}|1", None)
    assert not store.has_rows(JOB)
    store.sent([taken_back])
    store.apply([control("reopen", 1), review(1, "wrong")], {})
    assert store.has_rows(JOB)
    assert store.outbox() == []


def test_a_job_that_people_review_is_not_silent(store: JobStore) -> None:
    store.apply([change(outcome(1, OutcomeKind.EXPLAINED, 0, 0.9), at=1000)], {})
    assert [job for job, _, _ in store.silent_since(5000)] == [JOB]
    store.apply([review(1, "right", at=6000)], {})
    assert store.silent_since(5000) == []


def test_a_review_that_stands_alone_makes_no_job_but_is_removed_with_one(store: JobStore) -> None:
    store.apply([review(7, "right")], {})
    assert store.state(JOB) is None
    assert store.jobs(9) == []
    assert list(store.features(JOB)) == ["7"]
    assert store.has_rows(JOB)


def test_a_batch_that_fails_leaves_neither_rows_nor_offsets(store: JobStore) -> None:
    broken = Change(outcome(1, OutcomeKind.FAILED, 0, 0), object(), "", 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        store.apply([change(outcome(2, OutcomeKind.FAILED, 0, 0)), broken], {("t", 0): 9})
    assert store.positions("t") == {}
    assert store.state(JOB) is None


def test_an_admission_counts_once_and_a_tombstone_takes_its_outcome_back(store: JobStore) -> None:
    admission = Admission(explain_job_id=JOB, feature_key="1", find_job_id="find_1", target_model="m")
    store.apply([change(admission), change(admission), change(outcome(1, OutcomeKind.EXPLAINED, 0, 0.7))], {})
    state = store.state(JOB)
    assert state is not None
    assert (state.admitted, state.counters.explained) == (1, 1)
    assert store.missing(JOB, 10) == []
    store.apply([change(None, key=f"{JOB}|1")], {})
    state = store.state(JOB)
    assert state is not None
    assert state.counters == Counters()
    assert store.missing(JOB, 10) == ["1"]


def test_a_seal_is_never_lowered_at_the_same_revision(store: JobStore) -> None:
    for revision, expected, then in ((0, 5, 5), (0, 3, 5), (0, 7, 7), (1, 2, 2), (0, 9, 2)):
        store.apply([change(JobEvent(explain_job_id=JOB, revision=revision, at_ms=0, sealed=SealedPart(expected=expected)))], {})
        state = store.state(JOB)
        assert state is not None
        assert state.expected == then


def test_what_a_request_promises_and_a_replay_without_its_seal_count_until_the_job_is_opened_again(store: JobStore) -> None:
    def standing(*events: JobEvent) -> tuple[int | None, bool, int | None]:
        store.apply([change(event) for event in events], {})
        state = store.state(JOB)
        assert state is not None
        return state.promised, state.is_replaying, state.expected

    request = JobEvent(explain_job_id=JOB, at_ms=0, request=RequestPart(find_job_id="find_1", expected=1000))
    replay = JobEvent(explain_job_id=JOB, at_ms=0, replay=ReplayPart(from_job="find_1"))
    seal = JobEvent(explain_job_id=JOB, at_ms=0, sealed=SealedPart(expected=990))
    assert standing(request, replay) == (1000, True, None)
    assert standing(seal) == (1000, False, 990)
    assert standing(JobEvent(explain_job_id=JOB, revision=1, at_ms=0, control=ControlPart(action="reopen"))) == (None, False, None)
    assert standing(request.model_copy(update={"revision": 1})) == (1000, False, None)


def test_a_disk_that_is_full_or_read_only_is_out_of_reach_and_what_was_read_meanwhile_counts_afterwards(tmp_path: Path) -> None:
    with open_store(StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")) as store:
        for ill, well in (("max_page_count = 1", "max_page_count = 1000000"), ("query_only = on", "query_only = off")):
            before = store.positions("t")
            many = [change(outcome(feature, OutcomeKind.EXPLAINED, 0, 0.5)) for feature in range(300)]
            store._db.all(f"pragma {ill}")
            for _ in range(2):  # the first must not leave a transaction open
                with pytest.raises(Unreachable, match=r"explain\.db: the store's file cannot be read or written now"):
                    store.apply(many, {("t", 0): 300, ("t", len(before)): 1})
            assert store.positions("t") == before
            store._db.all(f"pragma {well}")
            store.apply(many, {("t", len(before)): 300})
        state = store.state(JOB)
        assert state is not None
        assert state.counters.explained == 300


def test_a_full_disk_at_the_start_is_not_called_damage_and_the_seat_can_be_taken_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seat = Seat(StoreSettings(url=f"sqlite:///{tmp_path}/explain.db"))
    with monkeypatch.context() as full:
        full.setattr(takeover, "make_tables", lambda database: (database.all("pragma query_only = on"), make_tables(database)))
        with pytest.raises(Unreachable, match="the file itself is as it was"):
            seat.take()
    assert seat.take().jobs(9) == []
    seat.leave()


def test_a_file_that_cannot_be_opened_is_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "explain.db").mkdir()
    with pytest.raises(Unreachable, match="unable to open database file"), open_store(StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")):
        pass


def test_a_file_that_is_no_store_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "explain.db"
    settings = StoreSettings(url=f"sqlite:///{path}")
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(BadSettings, match="move the file away"), open_store(settings):
        pass
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("create table job(id)")
    with pytest.raises(BadSettings, match="not a store of this version"), open_store(settings):
        pass


def test_a_store_into_which_nothing_was_read_is_not_kept_when_one_is_built_beside_it(at: StoreSettings) -> None:
    seat = Seat(at)
    seat.take()
    for kept in (False, True):
        anew = seat.begin_anew()
        anew.apply([change(outcome(1, OutcomeKind.EXPLAINED, 0, 0.5))], {("t", 0): 1})
        seat.finish()
        with reading(at) as rows:
            assert rows.positions("t") == {0: 1}
        assert are_kept(seat) == kept
    seat.leave()


def test_whoever_fails_on_a_store_that_is_being_replaced_can_see_that_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seat = Seat(StoreSettings(url=f"sqlite:///{tmp_path}/explain.db"))
    seat.take()
    there: list[JobStore | None] = []
    steps: tuple[Callable[[], object], ...] = (seat.begin_anew, seat.finish, seat.leave)
    for step in steps:
        database = seat._database
        assert database is not None

        def close(closed: Callable[[], None] = database.close) -> None:
            there.append(seat.store)
            closed()

        monkeypatch.setattr(database, "close", close)
        step()
    assert there == [None, None, None]


def are_kept(seat: Seat) -> bool:
    if seat.is_shared:
        assert seat._database is not None
        return bool(seat._database.all("select 1 from pg_namespace where nspname like ?", ("mistudio_explain_before_%",)))
    return any(files.file_of(seat.settings).parent.glob("*.before-*"))


def test_a_report_of_a_job_that_changed_meanwhile_is_due_again(store: JobStore) -> None:
    store.apply([change(JobEvent(explain_job_id=JOB, at_ms=0, request=RequestPart(find_job_id="find_1")))], {})
    ((job, dirty, status),) = store.due()
    assert (job, status) == (JOB, None)
    store.apply([change(outcome(1, OutcomeKind.FAILED, 0, 0))], {})
    store.reported(job, dirty, "completed")
    ((_, dirty, status),) = store.due()
    assert status == "completed"
    store.reported(job, dirty, "completed")
    assert store.due() == []


def test_numbers_come_before_names_and_in_their_own_order(store: JobStore, at: StoreSettings) -> None:
    for feature in (10, 9, 100):
        store.apply([change(outcome(feature, OutcomeKind.FAILED, 0, 0))], {})
    assert [o.subject.feature_key for o in read_outcomes(at, JOB)] == ["9", "10", "100"]


def test_a_second_aggregator_on_the_same_file_refuses_to_start(at: StoreSettings) -> None:
    with open_store(at), pytest.raises(BadSettings, match="another aggregator"), open_store(at):
        pass
    with open_store(at) as store:
        assert store.due() == []


def test_second_passes_of_before_a_reopening_settle_none_of_those_after_it(store: JobStore) -> None:
    def second(feature: int, revision: int) -> Change:
        return change(outcome(feature, OutcomeKind.EXPLAINED, revision, 0.9).model_copy(update={"pass_number": 2}))

    def made(revision: int, sent: int) -> Change:
        return change(JobEvent(explain_job_id=JOB, revision=revision, at_ms=1, second_pass=SecondPassPart(sent=sent, refused=0)))

    store.apply([*(second(feature, 1) for feature in range(5)), made(0, 5)], {("t", 0): 1})
    state = store.state(JOB)
    assert state is not None
    assert state.second_settled == 5
    reopened = change(JobEvent(explain_job_id=JOB, revision=1, at_ms=2, control=ControlPart(action="reopen")))
    store.apply([reopened, made(1, 3), second(7, 2)], {("t", 0): 2})
    state = store.state(JOB)
    assert state is not None
    assert state.second_settled == 1
