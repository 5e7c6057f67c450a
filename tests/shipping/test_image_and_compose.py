"""The image's recipe and the compose file, read by the tools that will read them; `make test-image` carries the recipe out."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mistudio_explain.assembly import SERVICES
from mistudio_explain.settings import Settings
from shipping.dockerfile import stages

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent


def composed(profile: str) -> Mapping[str, Any]:
    """The compose file as docker compose understands it; it names what it cannot."""
    arguments = [BIN / "docker-compose", "--file", ROOT / "docker-compose.yml", "--profile", profile, "config"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config: Mapping[str, Any] = yaml.safe_load(done.stdout)
    return config


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_special_and_asks_whether_it_lives() -> None:
    *_, final = stages(ROOT / "Dockerfile")
    steps = {step.name: step.text for step in final}
    assert steps["USER"] == "10001:10001"
    assert "/livez" in steps["HEALTHCHECK"]
    assert steps["ENTRYPOINT"] == '["mistudio-explain"]'


@pytest.mark.parametrize("name", ["image.lock", "tools.lock"])
def test_what_is_installed_in_the_image_is_pinned_by_hash(name: str) -> None:
    lock = (ROOT / "deploy" / name).read_text()
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", lock.strip()))
    assert "://" not in lock


def test_the_image_has_the_versions_that_are_tested() -> None:
    def versions(lock: Path) -> dict[str, str]:
        return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text(), re.MULTILINE))

    assert versions(ROOT / "deploy" / "image.lock").items() <= versions(ROOT / "requirements.lock").items()


@pytest.mark.parametrize(("profile", "there", "away"), [("cpu", "ollama-cpu", "ollama-gpu"), ("gpu", "ollama-gpu", "ollama-cpu")])
def test_each_profile_has_its_ollama_and_every_service(profile: str, there: str, away: str) -> None:
    services = composed(profile)["services"]
    assert there in services
    assert away not in services
    serving = {name for each in services.values() if (each.get("command") or [""])[0] == "serve" for name in each["command"] if name in (*SERVICES, "gateway")}
    assert serving == {*SERVICES, "gateway"}


def test_ports_are_published_to_this_machine_alone() -> None:
    ports = [port for each in composed("cpu")["services"].values() for port in each.get("ports", ())]
    assert ports
    assert all(port["host_ip"] == "127.0.0.1" for port in ports)


def test_our_containers_may_do_as_little_as_they_need() -> None:
    ours = [each for each in composed("cpu")["services"].values() if each["image"].startswith("mistudio-explain")]
    assert ours
    assert all(each["read_only"] and each["cap_drop"] == ["ALL"] and each["security_opt"] == ["no-new-privileges:true"] for each in ours)


def test_a_container_has_longer_to_stop_than_its_calls_have_to_end() -> None:
    assert composed("cpu")["services"]["generation"]["stop_grace_period"] == "40s"
    assert Settings().limits.grace_s < 40


def test_the_services_settings_are_good() -> None:
    Settings.model_validate(tomllib.loads((ROOT / "deploy" / "compose" / "mistudio-explain.toml").read_text()))


def test_every_file_that_is_mounted_is_there() -> None:
    mounts = [mount for each in composed("cpu")["services"].values() for mount in each.get("volumes", ()) if mount["type"] == "bind"]
    assert mounts
    assert [mount["source"] for mount in mounts if not Path(mount["source"]).exists()] == []
