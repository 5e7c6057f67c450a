"""Whatever stands in a file of another project's format, it is read or refused, and what is read can be published."""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mistudio_explain.errors import BadInput
from mistudio_explain.events.codec import encode
from mistudio_explain.intake.formats.choice import read_input, read_said
from mistudio_explain.intake.formats.tokens import readable

TEXT = {"tokens": [" a", " cat"], "values": [0.0, 2.5]}
LOGITS = {"pos_str": [" x"], "pos_values": [1.0], "neg_str": [], "neg_values": []}
RECORDS: dict[str, Any] = {
    "neuronpedia": {
        "modelId": "m", "layer": "0-s", "index": "1", "frac_nonzero": 0.1, "maxActApprox": 2.5, **LOGITS,
        "activations": [{**TEXT, "binMin": 0.0, "binMax": 1.0, "binContains": 0.5}], "explanations": [{"description": "cats"}],
    },
    "saedashboard": {
        "model_id": "m", "layer": 0, "sae_set": "s",
        "features": [{"feature_index": 1, "frac_nonzero": 0.1, **LOGITS, "activations": [{**TEXT, "bin_min": 0.0, "bin_max": 1.0, "bin_contains": 0.5}]}],
    },
    "openai": {
        "neuron_id": {"layer_index": 1, "neuron_index": 2}, "mean": 0.1, "variance": 0.2,
        "most_positive_activation_records": [{"tokens": [" a", " cat"], "activations": [0.0, 2.5]}],
    },
    "jsonl": {
        "model": "m", "layer": "l", "feature_id": 1, "explanation": "cats", "top_logits": [["x", 1.0]],
        "activations": [{"text": "a cat", "max_activation": 2.5, **TEXT, "active_tokens": [["cat", 2.5]], "peak": "cat"}],
    },
}  # fmt: skip

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a record."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def replaced(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The record with another value at a place."""
    if not path:
        return value
    changed = copy.deepcopy(record)
    here = changed
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return changed


@pytest.mark.parametrize("form", RECORDS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_record_with_anything_anywhere_is_read_or_refused(form: str, data: st.DataObject) -> None:
    record = replaced(RECORDS[form], data.draw(st.sampled_from(places(RECORDS[form]))), data.draw(VALUES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input.jsonl" if form != "saedashboard" else Path(folder) / "input.json"
        path.write_text(json.dumps(record))
        for read in (lambda: read_input(path, form, target_model=None if form != "openai" else "m"), lambda: read_input(path, target_model="m")):
            job, refused = None, ""
            try:
                job = read()
            except BadInput as error:
                refused = str(error)
            if job is None:
                assert "input.json" in refused
                continue
            for feature in job.features():
                assert encode(feature)
                assert feature.top_activations
        if form in ("neuronpedia", "jsonl"):
            try:
                said = read_said(path, form)
            except BadInput:
                return
            assert all(isinstance(text, str) for texts in said.explanations.values() for text in texts)


@given(content=st.binary(max_size=60), form=st.sampled_from(["auto", *RECORDS]), name=st.sampled_from(["x.json", "x.jsonl", "x.json.gz"]))
def test_any_bytes_are_read_or_refused(content: bytes, form: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"x\.json"):
            read_input(path, form, target_model="m")


@given(st.lists(st.tuples(st.text(alphabet="aĠ▁Ċé âĢĻÃ¡日’", max_size=4), st.floats(0, 9)), max_size=8))
def test_tokens_keep_one_value_each_and_none_of_their_strength_is_lost(pairs: list[tuple[str, float]]) -> None:
    tokens, values = [token for token, _ in pairs], [value for _, value in pairs]
    read, strengths = readable(tokens, values)
    assert len(read) == len(strengths) <= len(tokens)
    assert max(strengths, default=0) == max(values, default=0)
