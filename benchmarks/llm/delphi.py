"""Our generation path beside EleutherAI's delphi: the same real server, model and features.

delphi runs in an environment of its own, `.venv-delphi`, which the first run makes (about 100 MB). It is shown the windows
that our prompts show, and its answers may be as long. With a server, delphi's own command asks one at a time
(`delphi/__main__.py`, 0.1.3); its pipeline can do more, so it is measured at as many as there are slots too.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.llm.generating import generated
from benchmarks.llm.servers import ROOT, SERVERS, SLOTS, Served, settings
from benchmarks.llm.workload import PYTHIA, requests
from benchmarks.table import print_table
from integration.local_server import run_command
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.settings import GenerationSettings

FEATURES = 12
MAX_TOKENS = 300
PYTHON = ROOT / ".venv-delphi" / "bin" / "python"
REQUIREMENTS = Path(__file__).with_name("delphi_requirements.txt")
PROGRAM = Path(__file__).with_name("delphi_run.py")
WINDOW = 32  # tokens of an example: delphi's example_ctx_len


def environment() -> Path:
    """The Python of delphi's environment; made when it is not there or its packages have changed."""
    installed = PYTHON.parents[1] / REQUIREMENTS.name
    if not installed.is_file() or installed.read_text() != REQUIREMENTS.read_text():
        run_command(sys.executable, "-m", "venv", "--clear", str(PYTHON.parents[1]))
        run_command(str(PYTHON), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS))
        installed.write_text(REQUIREMENTS.read_text())
    return PYTHON


def examples_of(request: ExplanationRequested) -> list[dict[str, Any]]:
    """The windows that the prompt shows, as delphi centres them: so many tokens round the strongest."""
    examples = []
    for activation in request.evidence.seen:
        assert activation.tokens is not None
        assert activation.token_activations is not None
        peak = max(range(len(activation.tokens)), key=activation.token_activations.__getitem__)
        begin = max(0, min(peak - WINDOW // 2, len(activation.tokens) - WINDOW))
        window = slice(begin, begin + WINDOW)
        examples.append({"tokens": activation.tokens[window], "activations": activation.token_activations[window]})
    return examples


@dataclass(frozen=True, slots=True)
class Came:
    """What came of a contender."""

    features: int
    explained: int
    seconds: float
    tokens_in: int
    tokens_out: int

    @property
    def hourly(self) -> float:
        return 3600 * self.features / self.seconds

    def cells(self) -> list[str]:
        each = [f"{tokens / self.features:.0f}" for tokens in (self.tokens_in, self.tokens_out)]
        return [f"{self.hourly:.0f}", f"{3600 * self.explained / self.seconds:.0f}", *each, f"{self.features - self.explained} of {self.features}"]


def theirs(served: Served, features: int, at_once: int) -> Came:
    """delphi, on the features whose texts our prompts show."""
    shown = [examples_of(request) for request in requests(features, PYTHIA)]
    asked = {"features": shown, "url": served.url, "model": served.model, "max_tokens": MAX_TOKENS, "at_once": at_once}
    command = [str(environment()), "-P", str(PROGRAM)]  # -P: its folder has a delphi.py
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"delphi ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    made = json.loads(done.stdout)
    return Came(features, made["explained"], made["seconds"], made["prompt_tokens"], made["completion_tokens"])


def ours(served: Served, features: int, template: str, how: GenerationSettings) -> Came:
    """Our generation path."""
    wanted = requests(features, PYTHIA, template=template)
    observed = asyncio.run(generated(wanted, [served], settings(MAX_TOKENS), how))
    tokens_in, tokens_out = (sum(getattr(completion, name) or 0 for completion in observed.completions) for name in ("tokens_in", "tokens_out"))
    return Came(features, observed.drafts, observed.seconds, tokens_in, tokens_out)


def main(features: int = FEATURES, name: str = "llama.cpp") -> None:
    environment()
    contenders: dict[str, Callable[[Served], Came]] = {
        f"delphi 0.1.3, {SLOTS} at once": lambda served: theirs(served, features, SLOTS),
        "delphi 0.1.3, one at a time": lambda served: theirs(served, features, 1),
        "ours, demonstration@1": lambda served: ours(served, features, "demonstration@1", GenerationSettings()),
        "ours, general@1, one try": lambda served: ours(served, features, "general@1", GenerationSettings(attempts=1)),
    }
    came: dict[str, Came] = {}
    for contender, run in contenders.items():
        with SERVERS[name]() as served:
            came[contender] = run(served)
    rows = [[contender, *result.cells()] for contender, result in came.items()]
    best, mine = next(iter(came.values())), dict(list(came.items())[2:])
    rows += [[f"{contender} ÷ delphi, {SLOTS} at once (goal ≥ 1.5)", f"{result.hourly / best.hourly:.2f}"] + 4 * [""] for contender, result in mine.items()]
    columns = ("contender", "features an hour", "explained an hour", "tokens in", "tokens out", "without an explanation")
    print_table(f"{name}: {features} features of Pythia 70M, {SLOTS} slots, one thread", columns, rows)


if __name__ == "__main__":
    main()
