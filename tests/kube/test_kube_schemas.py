"""kubeconform, which many clusters' pipelines run, over every set of values: Kubernetes' schemas and the custom resources' own, strictly."""

import json
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube.programs import kube_programs
from shipping.custom_resources import schemas
from shipping.rendering import KUBERNETES, VALUES, Manifest, rendered

CORE = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
CUSTOM = "custom/{{ .Group }}/{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The schemas of kubernetes-validate and of the definitions, as kubeconform wants them laid out."""
    folder = tmp_path_factory.mktemp("schemas")
    source = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
    for each in source.iterdir():
        if each.name.endswith(".json"):
            (folder / each.name).write_text(json.dumps(_beside_each_other(json.loads(each.read_text()))))
    for version, kind, schema in schemas():
        path = folder / "custom" / version.partition("/")[0] / f"{kind.lower()}_{version.partition('/')[2]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema))
    return folder


def checked(manifests: list[Manifest], folder: Path) -> tuple[dict[str, int], list[str]]:
    """The summary, and what was said of invalid resources."""
    places = [option for template in (CORE, CUSTOM) for option in ("-schema-location", f"{folder}/{template}")]
    command = [str(kube_programs() / "kubeconform"), "-strict", "-summary", "-output", "json", "-kubernetes-version", f"{KUBERNETES}.0", *places]
    said = subprocess.run(command, input=yaml.safe_dump_all(manifests), stdout=subprocess.PIPE, text=True, check=False).stdout
    answer = json.loads(said)
    return answer["summary"], [f"{each['kind']}: {each['msg']}" for each in answer["resources"]]


@pytest.mark.parametrize("name", VALUES)
def test_kubeconform_finds_every_object_valid_and_skips_none(folder: Path, name: str) -> None:
    manifests = rendered(VALUES[name])
    assert checked(manifests, folder) == ({"valid": len(manifests), "invalid": 0, "errors": 0, "skipped": 0}, [])


def test_kubeconform_refuses_a_planted_field_in_every_object(folder: Path) -> None:
    planted = [{**each, "planted": True} for each in rendered(VALUES["everything"])]
    summary, _ = checked(planted, folder)
    assert summary["invalid"] == len(planted)


def _beside_each_other(schema: Any) -> Any:
    """References as a path beside the file, in place of one below a server's root."""
    if isinstance(schema, list):
        return [_beside_each_other(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _beside_each_other(value) for name, value in schema.items() if name != "$id" or not isinstance(value, str)}
    if isinstance(kept.get("$ref"), str):
        kept["$ref"] = kept["$ref"].replace("/api/_definitions.json#", "_definitions.json#")
    return kept
