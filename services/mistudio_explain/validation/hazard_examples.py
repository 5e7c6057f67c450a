"""Known examples of hazards and of harmless matters: how near a direction is to the ones rather than to the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from mistudio_explain.validation.static_embedding import Vectors

SHARPNESS = 2.0  # of the kernel; chosen on the development half among 1, 2, 3: sharper ones flag more hard negatives (scripts/fit_safety.py)
FAR = -0.4  # the margin of what is far from every example: a short text of an everyday matter that no example speaks of is harmless
HARMLESS = -1
STORED = "hazard_examples.safetensors"


@dataclass(frozen=True, slots=True)
class Examples:
    """Unit vectors of examples with a weight each, positive for hazards, fitted by scripts/fit_safety.py (kernel ridge)."""

    vectors: Vectors
    weights: Vectors
    hazard: NDArray[np.int64]
    """Number of each example's hazard class; HARMLESS for the others."""
    classes: tuple[str, ...]

    @classmethod
    def load(cls, side: str, classes: Sequence[str]) -> "Examples":
        """The examples of `side` ("texts" or "claims") that come along."""
        with as_file(files(__package__) / STORED) as path, safe_open(str(path), framework="np") as tensors:
            vectors: Vectors = tensors.get_tensor(f"{side}.vectors").astype(np.float32)
            weights: Vectors = tensors.get_tensor(f"{side}.weights").astype(np.float32)
            return cls(vectors, weights, tensors.get_tensor(f"{side}.hazard").astype(np.int64), tuple(classes))

    def margin(self, direction: Vectors) -> float:
        """Above 0: nearer to hazards. FAR where no example is near, about -0.8 for most features; `direction` is a unit vector, and zeros give FAR."""
        return FAR + float(self._pulls(direction).sum()) if direction.any() else FAR

    def nearest_class(self, direction: Vectors) -> str | None:
        """The hazard class whose examples pull the most; None when none pulls."""
        hazardous = self.hazard != HARMLESS
        if not direction.any() or not hazardous.any():
            return None
        pulls = np.bincount(self.hazard[hazardous], weights=self._pulls(direction)[hazardous], minlength=len(self.classes))
        strongest = int(pulls.argmax())
        return self.classes[strongest] if pulls[strongest] > 0 else None

    def slope(self, direction: Vectors) -> Vectors:
        """Where the margin grows from `direction` on: a word's product with it says how far the word pulls towards hazards."""
        slope: Vectors = 2 * SHARPNESS * (self._pulls(direction) @ self.vectors)
        return slope

    def _pulls(self, direction: Vectors) -> Vectors:
        pulls: Vectors = self.weights * np.exp(-2 * SHARPNESS * (1 - self.vectors @ direction))
        return pulls


def fitted(vectors: Vectors, hazard: NDArray[np.int64], classes: Sequence[str], shrinkage: float) -> Examples:
    """Kernel ridge regression on +1 (a hazard) and -1, FAR where nothing is near; both sides count the same, however many examples they have."""
    speaks = hazard != HARMLESS
    target = np.where(speaks, 1.0, -1.0)
    share = np.where(speaks, speaks.mean(), 1 - speaks.mean())
    kernel = np.exp(-2 * SHARPNESS * (1 - vectors.astype(np.float64) @ vectors.T.astype(np.float64)))
    weights = np.linalg.solve(kernel + shrinkage * np.diag(share), target - FAR)
    return Examples(vectors, weights.astype(np.float32), hazard, tuple(classes))
