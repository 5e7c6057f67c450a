"""When the store is a mirror of its topics, and from where it reads on."""

from mistudio_explain.aggregation.mirror import judge

STORED = {("t", 0): 10, ("t", 1): 4}
IDS = {"t": ("cluster", "id")}
BEGIN, END = {("t", 0): 0, ("t", 1): 0, ("t", 2): 0}, {("t", 0): 12, ("t", 1): 4, ("t", 2): 9}


def test_a_store_that_has_read_what_the_log_still_has_goes_on_where_it_stood_and_takes_new_partitions_from_their_beginning() -> None:
    judged = judge(STORED, IDS, IDS, BEGIN, END)
    assert judged.broken is None
    assert judged.expired == {}
    assert judged.start == {("t", 0): 10, ("t", 1): 4, ("t", 2): 0}


def test_another_topic_id_or_another_cluster_breaks_the_mirror_even_where_the_offsets_would_fit() -> None:
    assert "made again" in (judge(STORED, IDS, {"t": ("cluster", "other")}, BEGIN, END).broken or "")
    assert "made again" in (judge(STORED, IDS, {"t": ("other", "id")}, BEGIN, END).broken or "")


def test_a_log_that_ends_before_what_was_read_breaks_the_mirror() -> None:
    judged = judge(STORED, IDS, IDS, BEGIN, {**END, ("t", 0): 9})
    assert judged.broken is not None
    assert "10 was read and it ends at 9" in judged.broken


def test_a_partition_that_is_gone_breaks_the_mirror() -> None:
    assert judge(STORED, IDS, IDS, {("t", 0): 0}, {("t", 0): 12}).broken == "t/1 is gone"


def test_records_that_expired_unread_are_counted_and_the_mirror_goes_on_behind_them() -> None:
    judged = judge(STORED, IDS, IDS, {**BEGIN, ("t", 0): 11, ("t", 1): 4}, END)
    assert judged.broken is None
    assert judged.expired == {("t", 0): 1}
    assert judged.start[("t", 0)] == 11


def test_a_store_without_ids_and_a_broker_without_ids_are_judged_by_offsets_alone() -> None:
    assert judge(STORED, {}, IDS, BEGIN, END).broken is None
    assert judge(STORED, IDS, {}, BEGIN, END).broken is None
    assert judge({}, {}, IDS, BEGIN, END).broken is None


def test_a_store_into_which_nothing_was_read_is_blank_while_the_topics_hold_something() -> None:
    assert judge({}, {}, IDS, BEGIN, END).is_blank
    assert not judge({}, {}, IDS, END, END).is_blank
    assert not judge(STORED, IDS, IDS, BEGIN, END).is_blank
