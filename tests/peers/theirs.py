"""What other projects' own packages read in files of their formats: the program of a Python environment of its own, see __main__.py.

Their readers run as they are. Packages that other parts of theirs import (models on a GPU, clients of clouds) come to gigabytes and are not
installed: modules stand in for them of which nothing is called here.
"""

import asyncio
import gzip
import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

for name in (
    "torch",
    "transformers",
    "safetensors",
    "safetensors.numpy",
    "faiss",
    "sentence_transformers",
    "vllm",
    "blobfile",
    "boostedblob",
    "boostedblob.read",
):
    sys.modules[name] = MagicMock(__path__=[], __spec__=None)
for name in ("vllm.distributed", "vllm.distributed.parallel_state", "vllm.inputs"):
    sys.modules[name] = MagicMock(__path__=[], __spec__=None)
sys.modules["torch"].Tensor = np.ndarray
sys.modules["boostedblob"].ensure_session = lambda called: called

from delphi.explainers import explanation_loader  # noqa: E402
from delphi.latents import LatentRecord  # noqa: E402
from delphi.latents.latents import Latent  # noqa: E402
from neuron_explainer.activations.activations import NeuronRecord  # noqa: E402
from neuron_explainer.fast_dataclasses import loads  # noqa: E402
from neuronpedia.np_activation import Activation  # noqa: E402
from neuronpedia.np_explanation import Explanation  # noqa: E402
from sae_dashboard.neuronpedia.neuronpedia_dashboard import NeuronpediaDashboardBatch  # noqa: E402


def lines(folder, kind):
    """The records of a kind of batch files, with the name that neuronpedia's client has for `layer`."""
    for path in sorted(Path(folder, kind).glob("*.jsonl.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            record = json.loads(line)
            yield {**record, "source": record["layer"]}


def neuronpedia(folder):
    """Texts and explanations, each with model, source and index, as neuronpedia's client understands database records."""
    texts = [Activation.from_np_db_json(record) for record in lines(folder, "activations")]
    said = [Explanation.from_np_db_json(record) for record in lines(folder, "explanations")]
    return {
        "texts": [[each.modelId, each.source, each.index, each.tokens, each.values] for each in texts],
        "explanations": [[each.modelId, each.source, each.index, each.text, each.method, each.explainer_model] for each in said],
    }


def saedashboard(path):
    """The features of a batch by number: texts, density and logits."""
    batch = NeuronpediaDashboardBatch(**json.loads(gzip.decompress(Path(path).read_bytes())))
    return {
        "model": batch.model_id,
        "features": [
            {
                "index": feature.feature_index,
                "texts": [[each.tokens, each.values] for each in feature.activations],
                "density": feature.frac_nonzero,
                "logits": list(zip([*feature.pos_str, *feature.neg_str], [*feature.pos_values, *feature.neg_values], strict=True)),
            }
            for feature in batch.features
        ],
    }


def openai(path):
    """The neurons of a file with one a line: layer, number, greatest activation and texts."""
    records = [loads(line) for line in Path(path).read_text().splitlines()]
    assert all(isinstance(record, NeuronRecord) for record in records)
    return [
        [
            record.neuron_id.layer_index,
            record.neuron_id.neuron_index,
            record.max_activation,
            [[text.tokens, text.activations] for text in record.most_positive_activation_records],
        ]
        for record in records
    ]


def delphi(folder, latents):
    """The explanation of each latent."""

    async def loaded():
        return [(await explanation_loader(LatentRecord(Latent(module, number)), folder)).explanation for module, number in latents]

    return asyncio.run(loaded())


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump(
        {name: {"neuronpedia": neuronpedia, "saedashboard": saedashboard, "openai": openai, "delphi": delphi}[name](*given) for name, given in asked.items()},
        sys.stdout,
    )
