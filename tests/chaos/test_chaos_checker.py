"""The checker catches what is planted, and nothing else."""

from dataclasses import replace

import pytest

from chaos.checker import (
    DROPPED_POISON,
    DUPLICATED,
    LOSER_KEPT,
    LOST,
    STRANGER,
    UNASKED,
    UNEXPLAINED_LETTER,
    WRONG_COUNTER,
    WRONG_FILE,
    WRONG_OUTCOME,
    Call,
    Poison,
    repeats,
)
from chaos.honest_run import JOB, POISONED, Run, honest_run, key_of, letter_value, outcome_value, report_fields, word_of
from chaos.wire import DEAD_LETTERS, EXPLANATIONS, FEATURES, REPORTS, SCHEMAS, NotAnEvent, decode, encode, fingerprint, schema_in


@pytest.fixture
def run() -> Run:
    return honest_run()


def feature(number: int) -> bytes:
    return "|".join(key_of(number)).encode()


def test_a_run_that_kept_every_promise_has_no_findings(run: Run) -> None:
    assert run.findings() == []


def test_a_feature_without_an_outcome_is_lost(run: Run) -> None:
    del run.records[EXPLANATIONS][1]
    assert LOST in run.kinds()


def test_a_feature_whose_outcome_was_taken_back_is_lost(run: Run) -> None:
    run.records[EXPLANATIONS].append((feature(1), None))
    assert LOST in run.kinds()


def test_a_feature_that_is_missing_in_a_file_alone_is_lost(run: Run) -> None:
    run.files[JOB] = replace(run.files[JOB], table=run.files[JOB].table[1:])
    assert run.kinds() == {LOST}


def test_a_feature_that_stands_twice_in_the_table_is_a_duplicate(run: Run) -> None:
    run.files[JOB] = replace(run.files[JOB], table=[*run.files[JOB].table, key_of(2)[1]])
    assert run.kinds() == {DUPLICATED}


def test_a_feature_that_stands_among_the_explained_and_the_failed_is_a_duplicate(run: Run) -> None:
    run.files[JOB].explanations["failed"].append({"feature_key": key_of(0)[1]})
    assert DUPLICATED in run.kinds()


@pytest.mark.parametrize("counter", ["expected", "admitted", "explained", "skipped", "failed", "flagged", "confirmed", "tokens_in", "tokens_out"])
def test_a_counter_that_is_off_by_one_is_wrong(run: Run, counter: str) -> None:
    report = report_fields()
    run.records[REPORTS].append((JOB.encode(), encode("JobReport", {**report, counter: report[counter] + 1})))
    (finding,) = run.findings()
    assert finding.kind == WRONG_COUNTER
    assert counter in finding.what


def test_an_average_that_is_off_is_a_wrong_counter(run: Run) -> None:
    run.records[REPORTS].append((JOB.encode(), encode("JobReport", {**report_fields(), "averages": {"quality": 0.6}})))
    assert run.kinds() == {WRONG_COUNTER}


def test_a_report_that_is_not_completed_is_a_wrong_counter(run: Run) -> None:
    run.records[REPORTS].append((JOB.encode(), encode("JobReport", {**report_fields(), "status": "incomplete"})))
    assert run.kinds() == {WRONG_COUNTER}


def test_a_report_that_has_not_seen_what_it_counts_is_wrong(run: Run) -> None:
    run.records[REPORTS].append((JOB.encode(), encode("JobReport", {**report_fields(), "as_of": {"0": 4}})))
    assert run.kinds() == {WRONG_COUNTER}


def test_a_dead_letter_that_nobody_injected_is_unexplained(run: Run) -> None:
    stray = f"{FEATURES}/0/3"
    run.records[DEAD_LETTERS].append((stray.encode(), letter_value(stray, b"x", about=key_of(0))))
    assert run.kinds() == {UNEXPLAINED_LETTER}


def test_a_dead_letter_with_other_bytes_than_were_injected_is_unexplained(run: Run) -> None:
    run.records[DEAD_LETTERS].append((POISONED.encode(), letter_value(POISONED, b"other")))
    assert run.kinds() == {UNEXPLAINED_LETTER}


def test_a_dead_letter_about_a_feature_that_must_fail_is_explained(run: Run) -> None:
    retried = "mistudio.explain.prompts.gpt2/1/9"
    run.records[DEAD_LETTERS].append((retried.encode(), letter_value(retried, b"x", about=key_of(4))))
    assert run.findings() == []


def test_poison_of_which_no_dead_letter_tells_was_dropped(run: Run) -> None:
    run.poison[f"{FEATURES}/1/1"] = Poison("JSON", b"{}", must_die=True)
    assert run.kinds() == {DROPPED_POISON}


def test_strange_but_readable_records_need_no_dead_letter(run: Run) -> None:
    run.poison[f"{FEATURES}/1/1"] = Poison("foreign header", b"{}", must_die=False)
    assert run.findings() == []


def test_an_outcome_of_the_wrong_kind_is_found(run: Run) -> None:
    run.records[EXPLANATIONS][1] = (feature(1), outcome_value(1, "failed"))
    assert WRONG_OUTCOME in run.kinds()


def test_an_explanation_of_another_feature_is_found(run: Run) -> None:
    run.fates = {**run.fates, key_of(0): replace(run.fates[key_of(0)], word=word_of(9))}
    assert WRONG_OUTCOME in run.kinds()


def test_a_zombies_lesser_outcome_that_stands_last_would_be_kept_by_compaction(run: Run) -> None:
    run.records[EXPLANATIONS].append((feature(0), outcome_value(0, "failed", revision=9)))
    assert run.kinds() == {LOSER_KEPT}


def test_a_lesser_outcome_before_the_winner_is_no_finding(run: Run) -> None:
    run.records[EXPLANATIONS].insert(0, (feature(0), outcome_value(0, "failed", revision=9)))
    assert run.findings() == []


def test_junk_under_a_features_key_is_a_stranger_and_would_be_kept_by_compaction(run: Run) -> None:
    run.records[EXPLANATIONS].append((feature(0), b"junk"))
    assert run.kinds() == {LOSER_KEPT, STRANGER}


def test_an_outcome_of_a_feature_that_nobody_published_is_a_stranger(run: Run) -> None:
    run.records[EXPLANATIONS].append((feature(77), outcome_value(77, "failed")))
    assert run.kinds() == {STRANGER}
    run.poison[f"{FEATURES}/1/1"] = Poison("bad header", b"", must_die=False, names=key_of(77))
    assert run.findings() == []


def test_a_file_that_is_not_the_one_that_the_report_names_is_found(run: Run) -> None:
    run.files[JOB] = replace(run.files[JOB], hashes={"explanations.csv": "0"})
    assert run.kinds() == {WRONG_FILE}


def test_an_explanation_without_a_call_and_a_call_for_a_skipped_feature_are_found(run: Run) -> None:
    run.calls = [*run.calls[1:], Call(9.0, 9.1, "g1", word_of(3), "answered")]
    assert [finding.about for finding in run.findings()] == [feature(0).decode(), feature(3).decode()]
    assert run.kinds() == {UNASKED}


def test_calls_made_again_are_put_down_to_the_death_of_the_worker_that_made_the_first() -> None:
    calls = [
        Call(1, 1.1, "g1", "a", "answered"),
        Call(2, 3.1, "g1", "b", "cut"),
        Call(2, 2.1, "g2", "c", "answered"),
        Call(2, 2.1, "g1", "e", "cut"),
        Call(4, 4.1, "g1", "e", "answered"),  # a rebalance had cut the first off
        Call(4, 4.1, "g2", "a", "answered"),
        Call(4, 4.1, "g1", "b", "answered"),
        Call(5, 5.1, "g2", "c", "answered"),  # g2 was never killed
        Call(6, 6.1, "g1", "d", "failed"),
        Call(7, 7.1, "g1", "d", "answered"),  # the first was no work that counts
    ]
    assert repeats(calls, [("g1", 3.0), ("g1", 9.0)]) == ([2, 0], 2)


def test_the_wire_is_read_as_its_documentation_says() -> None:
    value = outcome_value(0, "explained")
    assert value[:2] == b"\xc3\x01"
    assert value[2:10] == fingerprint(schema_in(SCHEMAS / "FeatureOutcome.avsc"))
    assert decode(value, "FeatureOutcome")["subject"]["feature_key"] == "layer/0"
    for broken in (None, b"", value[:-3], value + b"x", b"{}", b"\xc3\x01" + b"12345678" + value[10:]):
        with pytest.raises(NotAnEvent):
            decode(broken, "FeatureOutcome")
    with pytest.raises(NotAnEvent):
        decode(value, "DeadLetter")
