"""The program that serves the demonstration model: `python -m mistudio_explain.llm.demonstration_server MODEL.gguf NAME SERVERS`.

It prints its addresses on one line of stdout and ends when its stdin does, or with its parent.

Each server computes with one thread. Threads of one llama.cpp context wait for each other by spinning, so that two of
them on a shared machine collapse: 24 features took 15 s on two idle cores with one server of two threads, but 59 to
107 s when another program used a core; two servers of one thread took 14 s and 24 s. The servers share the model's memory.
"""

import ctypes
import os
import signal
import sys

CONTEXT_TOKENS = 2048
_PR_SET_PDEATHSIG = 1
_ERRORS_ONLY = 1


def main() -> None:
    """Serve until stdin ends."""
    path, name, servers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    _end_with_parent()
    import xllamacpp  # after the line above, so that no orphan loads a model

    running = [xllamacpp.Server(_parameters(xllamacpp, path, name)) for _ in range(servers)]
    sys.stdout.write(" ".join(server.listening_address for server in running) + "\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    os._exit(0)  # the servers' threads do not stop by themselves


def _parameters(xllamacpp: object, path: str, name: str) -> object:
    parameters = xllamacpp.CommonParams()  # type: ignore[attr-defined]
    parameters.model.path = path
    parameters.model_alias = name
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_parallel = 1
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = _ERRORS_ONLY
    return parameters


def _end_with_parent() -> None:
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main()
