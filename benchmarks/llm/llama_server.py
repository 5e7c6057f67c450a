"""The program that serves the demonstration model with several slots: `python -m benchmarks.llm.llama_server MODEL.gguf NAME SLOTS`.

llama.cpp's own server, as it comes out of the package xllamacpp; prompts are cached by slot, which is its default. It
prints its address on one line of stdout and ends when its stdin does.
"""

import os
import sys

CONTEXT_TOKENS = 2048
"""Of each slot: what SmolLM2-135M was trained on."""
_ERRORS_ONLY = 1


def main() -> None:
    path, name, slots = sys.argv[1], sys.argv[2], int(sys.argv[3])
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.model_alias = name
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_parallel = slots
    parameters.n_ctx = CONTEXT_TOKENS * slots
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = _ERRORS_ONLY
    server = xllamacpp.Server(parameters)
    sys.stdout.write(server.listening_address + "\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    os._exit(0)  # the server's threads do not stop by themselves


if __name__ == "__main__":
    main()
