"""Runs EleutherAI's delphi on features from stdin: the program of a Python environment of its own, see delphi.py.

delphi's explainer, prompts, client and pipeline run as they are. The packages that its other parts import (a local model
on a GPU, caching of activations, neighbour search) come to 5 GB and are not installed; in their place stand modules of
which nothing is called here, and numpy's arrays instead of torch's tensors.
"""

import asyncio
import json
import sys
import time
from unittest.mock import MagicMock

import numpy as np

for name in ("torch", "transformers", "safetensors", "safetensors.numpy", "faiss", "sentence_transformers", "vllm"):
    sys.modules[name] = MagicMock(__path__=[], __spec__=None)
for name in ("vllm.distributed", "vllm.distributed.parallel_state", "vllm.inputs"):
    sys.modules[name] = MagicMock(__path__=[], __spec__=None)
sys.modules["torch"].Tensor = np.ndarray

from delphi.clients import OpenRouter  # noqa: E402
from delphi.explainers import DefaultExplainer  # noqa: E402
from delphi.latents import LatentRecord  # noqa: E402
from delphi.latents.latents import ActivatingExample, Latent  # noqa: E402
from delphi.pipeline import Pipe, Pipeline  # noqa: E402

NOT_PARSED = "Explanation could not be parsed."  # what the explainer says instead of an explanation


class Counting(OpenRouter):
    """delphi's client, which keeps what the server says of tokens."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.usages = []

    def postprocess(self, response):
        self.usages.append(response.json()["usage"])
        return super().postprocess(response)


def record_of(number, feature):
    """A record as delphi's sampler leaves it: tokens and activations, the latter also as whole numbers from 0 to 10."""
    greatest = max(max(example["activations"]) for example in feature)
    examples = []
    for example in feature:
        activations = np.array(example["activations"])
        normalized = np.ceil(activations * 10 / greatest).clip(0, 10)
        examples.append(ActivatingExample(np.arange(len(activations)), activations, normalized_activations=normalized, str_tokens=example["tokens"]))
    return LatentRecord(Latent("bench", number), examples=examples, train=examples)


async def explain(features, *, url, model, max_tokens, at_once):
    """Explain all of them with the pipeline; a feature whose call fails has no explanation."""
    client = Counting(model, api_key="none", base_url=url + "/chat/completions", max_tokens=max_tokens)
    explainer = DefaultExplainer(client)

    async def explained(record):
        try:
            return (await explainer(record)).explanation
        except RuntimeError as error:
            return error

    records = [record_of(number, feature) for number, feature in enumerate(features)]
    started = time.perf_counter()
    answers = [answer for (answer,) in await Pipeline(lambda: records, Pipe(explained)).run(at_once)]
    seconds = time.perf_counter() - started
    said = [answer for answer in answers if isinstance(answer, str) and answer.strip() and answer != NOT_PARSED]
    counted = {name: sum(usage[name] for usage in client.usages) for name in ("prompt_tokens", "completion_tokens")}
    return {"seconds": seconds, "explained": len(said), "explanations": said, **counted}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump(asyncio.run(explain(asked.pop("features"), **asked)), sys.stdout)
