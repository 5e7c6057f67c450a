"""How records are put together for the broker."""

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.kafka.publisher import _PART_BYTES, _in_parts
from mistudio_explain.kafka.records import Outgoing


@given(sizes=st.lists(st.integers(0, _PART_BYTES + 10), max_size=12))
def test_no_request_is_larger_than_a_broker_takes_unless_one_record_is(sizes: list[int]) -> None:
    value = memoryview(bytes(_PART_BYTES + 10))
    records = [Outgoing("t", str(number), value[:size]) for number, size in enumerate(sizes)]  # type: ignore[arg-type]
    parts = list(_in_parts(records))
    assert [record for part in parts for record in part] == records
    assert all(len(part) == 1 or sum(len(record.value or b"") for record in part) <= _PART_BYTES for part in parts)
    assert all(parts)
