"""`make crds`: generates the definitions of the custom resources that the chart makes, as their own projects do, into tests/data/crds.

KEDA's and prometheus-operator's come of their Go types by controller-gen, Strimzi's of its Java types by its own generator.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from integration.local_server import run_command
from integration.real_kafka import COPY_JARS
from shipping.custom_resources import DEFINITIONS

RECIPE = Path(__file__).parent / "crds"
JAVA_25 = "JAVA_25_HOME"
GO_TYPES = ("github.com/kedacore/keda/v2/apis/keda/v1alpha1", "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1")
KINDS = ("ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule", "KafkaTopic", "KafkaUser")
STRIMZI = {"KafkaTopic": "io.strimzi.api.kafka.model.topic.KafkaTopic", "KafkaUser": "io.strimzi.api.kafka.model.user.KafkaUser"}


def main() -> None:
    DEFINITIONS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mistudio-explain-crds-") as folder:
        of_go(Path(folder))
        of_java(Path(folder))
        found = {each["spec"]["names"]["kind"]: each for each in definitions(Path(folder))}
    for kind in KINDS:
        path = DEFINITIONS / f"{kind.lower()}.yaml"
        path.write_text(yaml.safe_dump(without_words(found[kind]), sort_keys=False, width=160))
        sys.stdout.write(f"{path}\n")


def of_go(folder: Path) -> None:
    paths = [f"paths={package}" for package in GO_TYPES]
    generate = ("go", "-C", str(RECIPE), "tool", "controller-gen", "crd:maxDescLen=0", *paths, f"output:crd:dir={folder}")
    run_command(*generate, env={**os.environ, "GOFLAGS": "-mod=mod"})


def of_java(folder: Path) -> None:
    """Raises KeyError with the name of the variable that tells where a JDK 25 is."""
    java = Path(os.environ[JAVA_25]) / "bin" / "java"
    jars = folder / "jars"
    run_command("mvn", "-q", "-B", "-f", str(RECIPE / "pom.xml"), COPY_JARS, "-DincludeScope=runtime", f"-DoutputDirectory={jars}")
    wanted = [f"{java_class}={folder / kind}.yaml" for kind, java_class in STRIMZI.items()]
    run_command(str(java), "-cp", f"{jars}/*", "io.strimzi.crdgenerator.CrdGenerator", "--yaml", "--crd-api-version", "v1", *wanted)
    shutil.rmtree(jars)


def definitions(folder: Path) -> Iterator[Mapping[str, Any]]:
    for file in sorted(folder.glob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text())


def without_words(told: Any) -> Any:
    """The definition without what is there to be read by people; a property may be called so."""
    if isinstance(told, list):
        return [without_words(each) for each in told]
    if not isinstance(told, dict):
        return told
    return {
        name: {field: without_words(each) for field, each in value.items()} if name == "properties" else without_words(value)
        for name, value in told.items()
        if name not in ("description", "additionalPrinterColumns") or not isinstance(value, str | list)
    }


if __name__ == "__main__":
    main()
