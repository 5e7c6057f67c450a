"""What is found in a store, by whom, and what is left of it: hostile questions, tenants, winners, deleted jobs, older stores."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mistudio_explain.errors import BadInput, Unreachable
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import Answer, FeatureOutcome, FeatureReviewed, OutcomeKind, Subject
from mistudio_explain.events.topics import REVIEWS
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store import explanations as module
from mistudio_explain.store import files, postgres, takeover
from mistudio_explain.store.database import Database
from mistudio_explain.store.explanations import BadCursor, Filters, Order
from mistudio_explain.store.job_store import JobStore
from mistudio_explain.store.jobs import Change, open_store, reading

JOB = "explain_1"
_FORMER = {"job", "place", "sha", "counters", "strength", "revision", "pass", "validator", "background", "at_ms", "body"}


def explained(feature: str, said: str, *, job: str = JOB, tenant: str = "default", revision: int = 0, quality: float | None = None) -> FeatureOutcome:
    return FeatureOutcome(
        outcome=OutcomeKind.EXPLAINED,
        subject=Subject(explain_job_id=job, tenant=tenant, feature_key=feature, find_job_id="find_1", target_model="m", revision=revision),
        answer=Answer(pattern=said),
        explanation=said,
        quality_score=quality,
    )


def write(store: JobStore, *outcomes: FeatureOutcome, at_ms: int = 1000) -> None:
    store.apply([Change(each, encode(each), "", at_ms) for each in outcomes], {})


def review(store: JobStore, feature: str, verdict: str) -> None:
    event = FeatureReviewed.model_validate({"explain_job_id": JOB, "feature_key": feature, "verdict": verdict, "who": "ada", "at_ms": 5})
    store.apply([Change(event, encode(event), f"{JOB}|{feature}", 1, REVIEWS)], {})


def found(store: JobStore, text: str, tenant: str = "default") -> list[str]:
    return [card.feature_key for card in store.explanations(tenant, filters=Filters(text=text)).cards]


@pytest.fixture(params=["few", "many", "indexed", "half indexed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: JobStore) -> None:
    """Each of the ways in which cards are found: by looking at all, along an order, by the index of words, which may know but the first of them."""
    if request.param != "few":
        monkeypatch.setattr(module, "_FEW", 0 if request.param == "many" else 2)
    if "indexed" in request.param:
        apply = store.apply

        def apply_and_index(changes: Iterable[Change], ends: Mapping[tuple[str, int], int]) -> None:
            apply(changes, ends)
            store.index(2 if "half" in request.param else 1000)

        monkeypatch.setattr(store, "apply", apply_and_index)


HOSTILE = (
    '"', "'", '""', "' or 1=1 --", '" OR ""="', "NEAR(a b)", "words:a", "-a", "^a", "a AND NOT b", "a*", "*", "%", "_", "\\", "a\0b", "\0", "(", ")", ":*", "!",
    "&", "|", "<->", "'a':*", "{a}", "[a]", "$1", "?", "%s", "%(x)s", "\ud800", "\u202e", "\ufffe", "😀", "a" * 10_000, "a " * 5_000, "\"'*%_\0" * 2_000,
    "é" * 10_000, "; DROP TABLE card;", "que%", "q_iet", "q*t", "quiet NOT words AND",
)  # fmt: skip


@pytest.mark.usefixtures("way")
def test_a_hostile_text_is_only_text(store: JobStore) -> None:
    keys = [f"x{number}" for number in range(5)]
    write(store, *(explained(key, "quiet words") for key in keys))
    for text in HOSTILE:
        assert found(store, text) == ([] if Filters(text=text).terms else keys), text
        store.counts("default", filters=Filters(text=text))
    assert found(store, '"quiet" & (words*)') == keys
    assert found(store, "x3' or '1'='1") == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60), stored=st.text(max_size=60))
@example(text="\0", stored="\0")
@pytest.mark.usefixtures("way")
def test_any_text_that_was_stored_is_found_by_itself_and_any_other_is_only_text(store: JobStore, text: str, stored: str) -> None:
    write(store, explained("1", stored, revision=next(_revisions)), explained("2", "word"), explained("3", "word"))
    assert "1" in found(store, stored)
    store.explanations("default", filters=Filters(text=text))


_revisions: Iterator[int] = iter(range(1, 1_000_000))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("text", ["imp", "PYTHON", "statements imp", "import-statements", "café", "CAFE", "cafe\u0301", "文", "中文", "blocks.3/77", "77"])
def test_words_are_found_by_their_beginnings_whatever_their_case_accents_and_order(store: JobStore, text: str) -> None:
    write(store, explained("blocks.3/77", "Python import statements, café, 中文"), *(explained(f"x{number}", "something else") for number in range(3)))
    assert found(store, text) == ["blocks.3/77"]


@pytest.mark.usefixtures("way")
def test_only_the_outcome_that_counts_is_found_with_the_words_that_it_has_now(store: JobStore) -> None:
    write(store, *(explained(str(number), "gamma") for number in range(5, 8)))
    write(store, explained("1", "alpha", revision=1))
    write(store, explained("1", "loser", revision=0))
    assert (found(store, "alpha"), found(store, "loser")) == (["1"], [])
    write(store, explained("1", "beta", revision=2))
    assert (found(store, "alpha"), found(store, "beta")) == ([], ["1"])
    store.apply([Change(None, None, f"{JOB}|1", 1)], {})
    assert found(store, "beta") == []
    assert store.counts("default").total == 3


def test_of_another_tenants_explanations_nothing_is_found_by_any_question(store: JobStore) -> None:
    write(store, explained("1", "secret", tenant="theirs"))
    assert found(store, "secret") == []
    assert store.explanations("default", job=JOB).cards == []
    assert store.counts("default", job=JOB).total == 0
    assert store.feature("default", JOB, "1") is None
    assert store.history("default", "1", find_job="find_1") == []
    assert found(store, "secret", "theirs") == ["1"]


def test_a_feature_is_shown_over_all_jobs_of_its_find_job_or_model_the_newest_first(store: JobStore) -> None:
    for at_ms, job in ((1, "b"), (3, "a"), (2, "c")):
        write(store, explained("5", f"said by {job}", job=job), explained("6", "other", job=job), at_ms=at_ms)
    assert [card.job for card in store.history("default", "5", find_job="find_1")] == ["a", "c", "b"]
    assert store.history("default", "5", find_job="find_1") == store.history("default", "5", target_model="m")
    assert store.history("default", "5", find_job="find_2") == store.history("default", "7", find_job="find_1") == []


def test_a_feature_has_its_outcome_and_its_newest_review(store: JobStore) -> None:
    write(store, explained("5", "said"))
    review(store, "5", "wrong")
    review(store, "5", "right")
    outcome = store.feature("default", JOB, "5")
    assert outcome is not None
    assert (outcome.explanation, outcome.review and outcome.review.verdict) == ("said", "right")
    (card,) = store.explanations("default", filters=Filters(is_reviewed=True)).cards
    assert card.review == "right"
    store.apply([Change(None, None, f"{JOB}|5", 2, REVIEWS)], {})
    assert store.explanations("default", filters=Filters(is_reviewed=True)).cards == []
    assert store.counts("default").by["reviewed"] == {"no": 1}


def test_a_cursor_is_good_for_its_own_list_alone(store: JobStore) -> None:
    write(store, *(explained(str(number), "word", quality=0.5) for number in range(5)))
    asked = {"job": JOB, "filters": Filters(outcomes=frozenset({"explained", "failed"})), "order": Order.QUALITY, "descending": False, "limit": 2}
    cursor = store.explanations("default", **asked).next  # type: ignore[arg-type]
    assert cursor is not None
    others = ({"job": None}, {"filters": Filters()}, {"order": Order.ACCURACY}, {"descending": True})
    for other in others:
        with pytest.raises(BadCursor, match="begins without a cursor"):
            store.explanations("default", cursor=cursor, **asked | other)  # type: ignore[arg-type]
    with pytest.raises(BadCursor):
        store.explanations("theirs", cursor=cursor, **asked)  # type: ignore[arg-type]
    digest = orjson.loads(base64.urlsafe_b64decode(cursor + "=="))[0]
    for forged in ([digest], [digest, "x", JOB, "1"], [digest, None, JOB, "1"], [digest, 0.5, JOB, "1", 2], {"a": 1}, digest, [digest, 0.5, ["x"], "1"]):
        with pytest.raises(BadCursor):
            store.explanations("default", cursor=base64.urlsafe_b64encode(orjson.dumps(forged)).decode(), **asked)  # type: ignore[arg-type]
    store.explanations("default", cursor=base64.urlsafe_b64encode(orjson.dumps([digest, 0.5, "'\0\"", "%"])).decode(), **asked)  # type: ignore[arg-type]


@given(cursor=st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(cursor="")
@example(cursor="A" * 100_000)
def test_no_text_that_is_not_a_cursor_is_taken_for_one(store: JobStore, cursor: str) -> None:
    with pytest.raises(BadCursor):
        store.explanations("default", cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 501, 10**9])
def test_a_page_of_no_or_too_many_cards_is_refused(store: JobStore, limit: int) -> None:
    with pytest.raises(BadInput, match="a page has 1 to 500 explanations"):
        store.explanations("default", limit=limit)


def test_of_a_forgotten_job_no_word_is_left_to_be_found_or_on_the_disk(store: JobStore, at: StoreSettings, tmp_path: Path) -> None:
    words = [sha256(str(number).encode()).hexdigest()[:16] for number in range(60)]
    for half in (words[:30], words[30:]):
        write(store, *(explained(word, "said", job="explain_2" if word in words[::2] else JOB) for word in half))
        store.index(20)
    store.forget(JOB)
    store.index(1000)
    assert [bool(found(store, word)) for word in words] == [True, False] * 30
    assert (store.counts("default").total, store.counts("default", job=JOB).total) == (30, 0)
    if files.is_file(at):
        on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert [word[6:].encode() in on_disk for word in words] == [True, False] * 30


def test_an_older_store_is_taken_over_without_losing_anything(at: StoreSettings) -> None:
    with open_store(at) as store:
        write(
            store, *(explained(str(number), f"word{number}", job=f"explain_{number % 3}", tenant=f"t{number % 3}", quality=number / 50) for number in range(50))
        )
        write(store, explained("1", "reviewed one"), at_ms=7)
        review(store, "1", "right")
        before = everything(store._db)
        make_former(store._db)
        assert store._db.columns_of("outcome") == _FORMER
    with open_store(at) as store:
        assert everything(store._db) == before
        write(store, explained("1", "and goes on", revision=1))
        assert found(store, "goes", "t1") == ["1"]


def test_an_older_store_whose_taking_over_is_cut_off_stays_as_it_was_and_is_taken_over_later(at: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(at) as store:
        write(store, *(explained(str(number), "word") for number in range(50)))
        make_former(store._db)

    def cut_off(*_: object, **__: object) -> FeatureOutcome:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(takeover, "decode", cut_off)
        with pytest.raises(KeyboardInterrupt), open_store(at):
            pass
    with pytest.raises(Unreachable, match="taken over by an aggregator of this version"), reading(at):
        pass
    with open_store(at) as store:
        assert len(found(store, "word")) == 50


def make_former(database: Database) -> None:
    """Take back what this version adds to a store."""
    if not isinstance(database, postgres.Postgres):
        database.run("drop table card_search")
    database.run("drop table card")
    database.run("drop table tally")
    database.run("drop table format")
    database.run("alter table outcome drop column cell")


def everything(database: Database) -> dict[str, list[tuple[object, ...]]]:
    tables = {"outcome": "job, place", "body": "id", "card": "id", "tally": "job, cell", "job": "job", "review": "job, place", "position": "topic, part"}
    columns = {table: ", ".join(sorted(database.columns_of(table))) for table in tables}
    return {table: database.all(f"select {columns[table]} from {table} order by {order}") for table, order in tables.items()}
