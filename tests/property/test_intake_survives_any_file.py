import json
import random
import tempfile
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from mistudio_explain.errors import BadInput
from mistudio_explain.events.codec import encode
from mistudio_explain.intake.document import Document
from mistudio_explain.intake.outline import outline
from mistudio_explain.intake.stage import FindJob, read

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _few(path: Path, member: str) -> dict[str, Any]:
    """The example with three features of three texts, so that a mutation hits something that matters."""
    job: dict[str, Any] = orjson.loads(path.read_bytes())
    job[member] = [{**feature, "top_activations": feature["top_activations"][:3]} for feature in job[member][:3]]
    (job.get("metadata") or job["job_metadata"])["total_features"] = 3
    return job


JOBS = [_few(EXAMPLES / "gpt2-small" / "feature_analysis.json", "features"), _few(EXAMPLES / "gemma-2-2b" / "find_gemma-2-2b_results.json", "results")]
FILES = [json.dumps(job, indent=indent, ensure_ascii=ascii_only).encode() for job in JOBS for indent, ascii_only in ((None, True), (2, False))]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
mutations = st.sampled_from(["cut", "flip", "delete", "double", "insert"])


def spoil(content: bytes, kind: str, at: int, length: int, byte: int) -> bytes:
    match kind:
        case "cut":
            return content[:at]
        case "flip":
            return content[:at] + bytes([content[at] ^ byte]) + content[at + 1 :]
        case "delete":
            return content[:at] + content[at + length :]
        case "double":
            return content[: at + length] + content[at:]
        case _:
            return content[:at] + bytes([byte]) * length + content[at:]


def replaced(value: Any, choose: random.Random, new: Any) -> Any:
    """The same JSON with one value, anywhere in it, replaced by `new`, left out or doubled."""
    if isinstance(value, dict) and value and choose.random() < 0.85:
        key = choose.choice(list(value))
        if choose.random() < 0.15:
            return {name: inner for name, inner in value.items() if name != key}
        return {**value, key: replaced(value[key], choose, new)}
    if isinstance(value, list) and value and choose.random() < 0.85:
        index = choose.randrange(len(value))
        if choose.random() < 0.15:
            return [*value, value[index]]
        return [*value[:index], replaced(value[index], choose, new), *value[index + 1 :]]
    return new


def read_bytes(content: bytes, keep_going: bool) -> FindJob | BadInput:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feature_analysis.json"
        path.write_bytes(content)
        try:
            return read(path, target_model=None if b"model_name" in content else "m", keep_going=keep_going)
        except BadInput as refused:
            error = refused
    assert str(error).startswith(f"{path}: $")
    return error


def assert_sound(result: FindJob | BadInput) -> None:
    """Whatever is given can be published: as many features as promised, all different, each an event."""
    if isinstance(result, FindJob):
        features = list(result.features())
        assert len(features) == result.total == len({each.feature_key for each in features}) > 0
        assert all(encode(each) for each in features)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FILES), mutations, st.floats(0, 1, exclude_max=True), st.integers(1, 200), st.integers(1, 255), st.booleans())
def test_a_file_with_spoiled_bytes_is_read_or_refused_with_a_path(content: bytes, kind: str, place: float, length: int, byte: int, keep_going: bool) -> None:
    assert_sound(read_bytes(spoil(content, kind, int(place * len(content)), length, byte), keep_going))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(JOBS), st.randoms(use_true_random=False), json_values, st.booleans())
def test_a_file_with_a_value_of_any_other_type_is_read_or_refused_with_a_path(job: Any, choose: random.Random, new: Any, keep_going: bool) -> None:
    assert_sound(read_bytes(json.dumps(replaced(job, choose, new)).encode("utf-8", "surrogatepass"), keep_going))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_always_refused(content: bytes, place: float) -> None:
    assert isinstance(read_bytes(content[: int(place * len(content))], keep_going=False), BadInput)


@settings(max_examples=300, deadline=None)
@given(st.lists(json_values.filter(lambda value: r"\ud" not in json.dumps(value)), max_size=5), st.sampled_from([None, 1, 2]), st.booleans())
def test_the_outline_finds_exactly_the_elements_that_a_decoder_finds(values: list[Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps({"before": {"x": ["]"]}, "features": values, "after": 'a "b'}, indent=indent, ensure_ascii=ascii_only).encode()
    found = outline(Document(Path("file"), text), frozenset({"features"}))
    elements = found.lists["features"]
    pieces = [text[elements.span(index).start : elements.span(index).end] for index in range(len(elements))]
    assert found.breakage is None
    assert json.dumps([json.loads(piece) for piece in pieces]) == json.dumps(values)
    assert set(found.members) == {"before", "after"}
