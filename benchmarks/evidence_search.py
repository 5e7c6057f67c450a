"""What it would cost to search the texts of the evidence too: a store with their words in the index, and one without.

The features of `examples/features` have 205 different words in their texts in the median (`words_of`); 400 drawn by Zipf's law come to about as many.
"""

import gc
import random
import tempfile
from pathlib import Path

from benchmarks.store_search import fill, measured, vocabulary
from benchmarks.table import print_table, spread
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.explanations import Filters, Order
from mistudio_explain.store.job_store import JobStore
from mistudio_explain.store.jobs import reading

ROWS = 20_000
FURTHER = {"without": 0, "with the texts' words": 400}


def main() -> None:
    gc.set_threshold(100_000, 50, 100)
    words = vocabulary(30_000, random.Random(7))
    asked = {"a common word": words[40], "a word of the middle": words[2_000], "a rare word": words[29_000], "two letters": words[29_000][:2]}
    table = {what: [what] for what in ("µs to write a row", "µs to index it", "bytes a row", *asked)}
    for further in FURTHER.values():
        with tempfile.TemporaryDirectory() as name:
            settings = StoreSettings(url=f"sqlite:///{name}/explain.db")
            written, indexed = fill(settings, ROWS, further=further)
            table["µs to write a row"].append(f"{written:.0f}")
            table["µs to index it"].append(f"{indexed:.0f}")
            table["bytes a row"].append(f"{sum(path.stat().st_size for path in Path(name).iterdir()) / ROWS:.0f}")
            with reading(settings) as store:
                for what, word in asked.items():
                    times, came = measured(lambda store, word=word: _page(store, word), store)  # type: ignore[misc]
                    table[what].append(f"{spread(times, 1)} ms, {came}")
    print_table(f"Searching the texts of the evidence too, {ROWS:,} explanations (SQLite)", ("what", *FURTHER), list(table.values()))


def _page(store: JobStore, word: str) -> object:
    return store.explanations("default", filters=Filters(text=word), order=Order.QUALITY, descending=True)


if __name__ == "__main__":
    main()
