"""Carries out a Dockerfile's stages where no container engine is: its RUN and COPY steps, in a folder that stands for the root."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction, with continued lines joined."""

    name: str
    text: str


def stages(dockerfile: Path) -> list[list[Step]]:
    """The instructions of each stage."""
    found: list[list[Step]] = []
    for step in _steps(dockerfile.read_text()):
        if step.name == "FROM":
            found.append([])
        found[-1].append(step)
    return found


def _steps(text: str) -> Iterator[Step]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    for line in lines.splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield Step(name, rest.strip())


def carry_out(stage: list[Step], context: Path, root: Path) -> None:
    """Carry out the steps of a stage that copies from the context alone; the paths /opt and /src of the image lie under `root`."""
    environment = {"HOME": str(root), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    here = root
    for step in stage:
        match step.name:
            case "ENV":
                environment |= dict(pair.split("=", 1) for pair in step.text.split())
            case "WORKDIR":
                here = root / step.text.lstrip("/")
                here.mkdir(parents=True, exist_ok=True)
            case "COPY":
                *sources, target = step.text.split()
                for source in sources:
                    _copy(context / source, here / target)
            case "RUN":
                command = re.sub(r"(?<![\w/])/(opt|src)\b", rf"{root}/\1", step.text)
                subprocess.run(["/bin/sh", "-ec", command], cwd=here, env=environment, check=True)
            case _:
                pass


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
