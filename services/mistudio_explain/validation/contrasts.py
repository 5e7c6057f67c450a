"""The prepared backgrounds that were used last, so that each version is prepared once."""

from collections import OrderedDict

from mistudio_explain.events.job import JobBackground
from mistudio_explain.validation.contrast import Contrast
from mistudio_explain.validation.minilm import MiniLM
from mistudio_explain.validation.static_embedding import StaticEmbedding

Key = tuple[str, str, int]


class Contrasts:
    """A bounded map from (tenant, find job, version) to the prepared background; the least recently used goes first.

    A prepared background of 64 features takes about 1 MB. It only saves time: an evicted one is prepared anew and is equal.
    """

    def __init__(self, embedding: StaticEmbedding, capacity: int = 32, minilm: MiniLM | None = None) -> None:
        self._embedding = embedding
        self._minilm = minilm
        self._capacity = capacity
        self._prepared: OrderedDict[Key, Contrast] = OrderedDict()

    def with_capacity(self, capacity: int) -> "Contrasts":
        """An empty map of another size, with the same models."""
        return Contrasts(self._embedding, capacity, self._minilm)

    def of(self, background: JobBackground) -> Contrast:
        """The background, prepared."""
        key = (background.tenant, background.find_job_id, background.version)
        if key in self._prepared:
            self._prepared.move_to_end(key)
            return self._prepared[key]
        contrast = self._prepared[key] = Contrast.of(background.sample, self._embedding, self._minilm)
        if len(self._prepared) > self._capacity:
            self._prepared.popitem(last=False)
        return contrast

    def __len__(self) -> int:
        return len(self._prepared)
