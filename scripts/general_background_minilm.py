"""Writes what MiniLM makes of the general background, so that no service has to read its 320 texts at its start.

    python scripts/general_background_minilm.py

To be run after scripts/general_background.py, and whenever MiniLM or the number of tokens that it reads changes.
"""

from pathlib import Path

from safetensors.numpy import save_file

from mistudio_explain.validation import general
from mistudio_explain.validation.contrast import Contrast
from mistudio_explain.validation.minilm import MiniLM
from mistudio_explain.validation.static_embedding import StaticEmbedding

if __name__ == "__main__":
    contrast = Contrast.of(general.general_background(), StaticEmbedding.load(), MiniLM.load())
    assert contrast.minilm is not None
    save_file({general.CENTROIDS: contrast.minilm}, Path(general.__file__).with_name(general.MINILM_STORED))
