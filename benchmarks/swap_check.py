"""The swap check of shared calls: how many exchanged answers it finds, and how many answers in their places it takes for others'."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import print_table
from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.evaluation.data import Known, read_sets
from mistudio_explain.events.explanation import Evidence, Message, Prompt
from mistudio_explain.generation.several import parted

FEATURES = Path(__file__).parent.parent / "examples" / "features"
FEWEST = 20  # explained features of a source
CALLS = 40  # of each size and source
ASKED = Prompt(template="t", version="1", sha256="", messages=[Message(role="user", content="Explain.")], answer="fields")


def kinds(group: Sequence[Known], order: Sequence[int]) -> list[str]:
    """What the check makes of each feature's answer when the explanations stand in this order."""
    said = [{"number": n, "label": "a label", "pattern": group[at].explanation, "significance": "", "implications": ""} for n, at in enumerate(order, 1)]
    found = parted(json.dumps({"answers": said}), "stop", [(ASKED, Evidence(seen=known.feature.top_activations)) for known in group])
    return [each.kind if isinstance(each, UnusableAnswer) else "usable" for _, each in found]


def main() -> None:
    rng = random.Random(1)
    sources = [explained for source in read_sets(FEATURES) if len(explained := [known for known in source.features if known.explanation]) >= FEWEST]
    rows = []
    for size in (2, 5, 10, 20):
        places, exchanged, shifted = Counter[str](), Counter[str](), Counter[str]()
        for explained in sources:
            for _ in range(CALLS):
                group, order = rng.sample(explained, size), list(range(size))
                places.update(kinds(group, order))
                first, second = rng.sample(order, 2)
                swapped = [{first: second, second: first}.get(at, at) for at in order]
                exchanged.update(kind for at, kind in enumerate(kinds(group, swapped)) if at in (first, second))
                shifted.update(kinds(group, [*order[1:], order[0]]))
        rows.append([str(size), *(f"{counted['swapped'] / (counted['swapped'] + counted['usable']):.1%}" for counted in (places, exchanged, shifted))])
    print_table(
        f"The swap check on {sum(map(len, sources))} explained features of {len(sources)} sources, {CALLS * len(sources)} calls of each size",
        ("features in a call", "in their places, taken for another's", "two exchanged, found", "all shifted by one, found"),
        rows,
    )
