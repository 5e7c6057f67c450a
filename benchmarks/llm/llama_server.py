"""The program that serves the demonstration model with several slots: `python -m benchmarks.llm.llama_server MODEL.gguf NAME SLOTS CONTEXT`.

llama.cpp's own server, as it comes out of the package xllamacpp; prompts are cached by slot, which is its default. CONTEXT is
that of each slot. It prints its address on one line of stdout and ends when its stdin does.
"""

import os
import sys

_ERRORS_ONLY = 1


def main() -> None:
    path, name, slots, context_tokens = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.model_alias = name
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_parallel = slots
    parameters.n_ctx = context_tokens * slots
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
