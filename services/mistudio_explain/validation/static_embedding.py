"""Static text embeddings: a text is the mean of its tokens' vectors, so that one costs tens of microseconds.

The weights and the tokenizer are wordllama's `l2_supercat`, 256 dimensions. They are read straight from the
installed package's files: importing the package itself sets up the root logger and loads an HTTP client, and none
of that is wanted in a library. Nothing here can reach for the network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Tokenizer

from mistudio_explain.errors import BadSettings

Vectors = NDArray[np.float32]

_WEIGHTS = Path("weights/l2_supercat_256.safetensors")
_TOKENIZER = Path("tokenizers/l2_supercat_tokenizer_config.json")


Pieces = Callable[[str], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class StaticEmbedding:
    """A vector for each token of a vocabulary, and the tokenizer that cuts words into them."""

    pieces: Pieces
    """The tokens of a run of characters without white space."""
    weights: Vectors

    @classmethod
    def load(cls) -> "StaticEmbedding":
        """Read the model from the installed wordllama package (about 80 ms, 33 MB).

        Raises BadSettings when the package or its files are missing.
        """
        spec = find_spec("wordllama")
        folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
        if folder is None or not (folder / _WEIGHTS).exists() or not (folder / _TOKENIZER).exists():
            raise BadSettings(f"static embeddings: {_WEIGHTS} or {_TOKENIZER} is missing from the package wordllama; install wordllama==0.4.0.post1")
        with safe_open(str(folder / _WEIGHTS), framework="np") as tensors:
            weights: NDArray[np.float16] = tensors.get_tensor("embedding.weight")
        # in single precision: half would save 16 MB and cost 0.4 ms a feature of 42 KB
        return cls(_pieces(Tokenizer.from_file(str(folder / _TOKENIZER))), weights.astype(np.float32))

    def embed(self, texts: list[str]) -> Vectors:
        """Unit vectors of the texts, one row each; a row of zeros for a text without a word.

        White space does not count, so that the tokens of a word can be remembered: that is a tenth of the tokenizer's time.
        """
        rows = np.zeros((len(texts), self.weights.shape[1]), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            if tokens := list(chain.from_iterable(map(self.pieces, text.split()))):
                np.add.reduce(self.weights.take(tokens, axis=0), axis=0, out=row)
        return unit(rows)


def unit(rows: Vectors) -> Vectors:
    """The rows scaled to length 1; rows of zeros stay."""
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    length[length == 0] = 1
    scaled: Vectors = rows / length[:, None]
    return scaled


def encodable(text: str) -> str:
    """The text with lone surrogates replaced: no tokenizer takes them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _pieces(tokenizer: Tokenizer) -> Pieces:
    tokenizer.no_truncation()
    tokenizer.no_padding()

    @lru_cache(maxsize=1 << 15)
    def pieces(word: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(encodable(word), add_special_tokens=False).ids)

    return pieces
