"""How the contract of a version is frozen."""

import json
from pathlib import Path

import pytest

from golden_events import HISTORY
from mistudio_explain import __version__
from mistudio_explain.errors import BadInput
from mistudio_explain.events.avro import write
from mistudio_explain.events.release import VALUES, freeze, values


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def test_a_frozen_version_holds_the_schemas_and_the_values_of_every_choice(schemas: Path) -> None:
    frozen = freeze(schemas, "9.0.0")
    assert frozen == schemas / "history" / "9.0.0"
    assert {path.name: path.read_bytes() for path in frozen.glob("*.avsc")} == {path.name: path.read_bytes() for path in schemas.glob("*.avsc")}
    assert json.loads((frozen / VALUES).read_bytes()) == values()
    assert [path.name for path in (schemas / "history").iterdir()] == ["9.0.0"]
    assert freeze(schemas, "9.0.0") == frozen


def test_a_version_that_was_released_is_never_changed(schemas: Path) -> None:
    frozen = freeze(schemas, "9.0.0")
    (frozen / "TokenChunk.avsc").unlink()
    with pytest.raises(BadInput, match=r"version 9\.0\.0 was released with another contract than this one; raise __version__ first"):
        freeze(schemas, "9.0.0")
    assert not (frozen / "TokenChunk.avsc").exists()


@pytest.mark.parametrize("version", ["0.2.0.dev0", "latest", "../0.2.0", ""])
def test_only_a_release_is_frozen(schemas: Path, version: str) -> None:
    with pytest.raises(BadInput, match=r"is no release, which is X\.Y\.Z"):
        freeze(schemas, version)


def test_schemas_that_are_not_what_the_models_say_are_not_frozen(schemas: Path) -> None:
    schema = json.loads((schemas / "TokenChunk.avsc").read_bytes())
    schema["fields"].pop()
    (schemas / "TokenChunk.avsc").write_text(json.dumps(schema), encoding="utf-8")
    with pytest.raises(BadInput, match="TokenChunk are not what the models say; run `make schemas` first"):
        freeze(schemas, "9.0.0")
    assert not (schemas / "history").exists()


def test_the_values_of_choices_are_found_in_lists_options_and_nested_records() -> None:
    found = values()
    assert found["Accuracy.basis"] == ["all", "held_out", "seen"]
    assert found["JudgedKind.kind"] == ["detection", "fuzzing"]
    assert "FeatureOutcome.reason" not in found


def test_a_version_that_writes_another_contract_than_the_last_release_is_a_later_one() -> None:
    def order(version: str) -> tuple[int, ...]:
        return tuple(map(int, version.split(".")[:3]))

    last = max(HISTORY.iterdir(), key=lambda release: order(release.name))
    released = {path.name: path.read_bytes() for path in last.glob("*.avsc")}
    written = {path.name: path.read_bytes() for path in HISTORY.parent.glob("*.avsc")}
    assert written == released or order(__version__) > order(last.name), "raise __version__ with the first change after a release (docs/upgrades.md)"
