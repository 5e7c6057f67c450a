"""Lists and search in a store of a million explanations, on SQLite and PostgreSQL: how long a page takes, cold caches aside.

The rows are written by the aggregator's own way (`JobStore.apply`), with bodies of 1 KB in the place of evidence, which lists do not read.
One job has 200,000 features, 160 jobs have 5,000 each. Words are drawn from 30,000 by Zipf's law: 5 in a label, 30 in an explanation, 10 keywords.
"""

import gc
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import accumulate, islice
from pathlib import Path

from benchmarks.table import print_table, spread
from integration.real_postgres import RealPostgres, postgres_programs
from mistudio_explain.aggregation.stage import COUNTER_NAMES
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.cards import Between, Details, words_of
from mistudio_explain.store.explanations import Filters, Order, Page
from mistudio_explain.store.job_store import JobStore
from mistudio_explain.store.jobs import Change, open_store, reading
from mistudio_explain.store.rows import Counted

ROWS = 1_000_000
LARGE = "explain_large"
SMALL = "explain_60"
_AT_ONCE = 2000
_BODY = 1024
_RUNS = 15
_CONSONANTS, _VOWELS = "bcdfghklmnprstvwz", "aeiou"
_ZEROS = (0,) * len(COUNTER_NAMES)


def vocabulary(size: int, rng: random.Random) -> list[str]:
    """Words that can be told apart and begin alike, as those of a language do; the most frequent ones are short."""
    words: dict[str, None] = {}
    while len(words) < size:
        syllables = 1 + min(3, len(words) // 60) if len(words) < 240 else rng.choice((2, 3, 3, 4))
        words["".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(syllables))] = None
    return list(words)


def rows(count: int, seed: int = 7, *, further: int = 0) -> Iterator[Change]:
    """Outcomes as the aggregator reads them; what is confirmed scores well, and what is a safety concern is rare.

    `further` words are drawn for each that are searched too.
    """
    rng = random.Random(seed)
    words = vocabulary(30_000, rng)
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    for number in range(count):
        job = LARGE if number < count // 5 else f"explain_{number // 5000}"
        drawn = rng.choices(words, cum_weights=weights, k=45)
        kind = rng.choices("esf", (90, 8, 2))[0]
        verdict = rng.choices("cpxu", (50, 25, 15, 10))[0] if kind == "e" else "-"
        category, safety = rng.choice("tcbmo"), rng.choices("src", (97, 2.9, 0.1))[0] if kind == "e" else "-"
        cell = f"{kind}{category}{verdict}{safety}{rng.choices('ny', (9, 1))[0]}n"
        quality = {"c": 0.6, "p": 0.4, "x": 0.1, "u": 0.3, "-": -1.4}[verdict] + 0.4 * rng.random()
        label, said = " ".join(drawn[:5]), " ".join(drawn[5:35])
        feature = f"blocks.{number % 24}/{number}"
        beyond = rng.choices(words, cum_weights=weights, k=further)
        found = "".join(f" {word}" for word in words_of(label, said, *drawn[35:], feature, *beyond))
        scores = (round(quality, 4), round(rng.random(), 4), round(rng.random(), 4)) if kind == "e" else (-1.0, -1.0, -1.0)
        details = Details(cell, *scores, found, "org/model", rng.choice(("llm-a", "llm-b")), f"blocks.{number % 24}", label, said)
        rank = (2, 0, 1, 1, 1, f"{number:064x}")
        yield Change(Counted(job, feature, "default", "find", "org/model", 0, 0, rank, _ZEROS, details), rng.randbytes(_BODY), "", 1_700_000_000_000 + number)


def fill(settings: StoreSettings, count: int = ROWS, *, further: int = 0) -> tuple[float, float]:
    """Build the store; µs for each row to write it, and to index its words."""
    taken = 0.0
    with open_store(settings) as store:
        stream = rows(count, further=further)
        while batch := list(islice(stream, _AT_ONCE)):
            started = time.perf_counter()
            store.apply(batch, {})
            taken += time.perf_counter() - started
        started = time.perf_counter()
        while store.unindexed():
            store.index(_AT_ONCE)
        if not settings.url.startswith("sqlite"):
            store._db.run("vacuum analyze card")  # noqa: SLF001  (as the server does by itself, later)
        return taken / count * 1e6, (time.perf_counter() - started) / count * 1e6


def asked(words: list[str]) -> dict[str, Callable[[JobStore], object]]:
    """Questions by what they are."""
    best = {"order": Order.QUALITY, "descending": True}
    some = Filters(verdicts=frozenset({"confirmed", "partial"}), categories=frozenset({"technical"}))
    common, middle, rare = words[40], words[2_000], words[29_000]

    def page(**kwargs: object) -> Callable[[JobStore], Page]:
        return lambda store: store.explanations("default", **kwargs)  # type: ignore[arg-type]

    def far(store: JobStore) -> Page:
        return store.explanations("default", filters=some, cursor=cursors[id(store)], **best)  # type: ignore[arg-type]

    cursors: dict[int, str] = {}

    def deep(store: JobStore) -> Page:
        if id(store) not in cursors:
            cursor = None
            for _ in range(100):
                cursor = store.explanations("default", filters=some, cursor=cursor, limit=500, **best).next  # type: ignore[arg-type]
            cursors[id(store)] = cursor or ""
        return far(store)

    return {
        "page: all, best first": page(**best),
        "page: two verdicts of one category, best first": page(filters=some, **best),
        "the same, after 50,000 others": deep,
        "page: contradicted, best first (all at the end of the order)": page(filters=Filters(verdicts=frozenset({"contradicted"})), **best),
        "page: concerning (1 in 1,000), newest first": page(filters=Filters(safety=frozenset({"concerning"})), order=Order.CHANGED, descending=True),
        "page: quality 0.95 to 1, newest first": page(filters=Filters(quality=Between(0.95, 1.0)), order=Order.CHANGED, descending=True),
        "page: one layer of 24 and one explainer, most accurate first": page(
            filters=Filters(layer="blocks.3", explainer="llm-a"), order=Order.ACCURACY, descending=True
        ),
        "page: a job of 5,000, failed": page(job=SMALL, filters=Filters(outcomes=frozenset({"failed"}))),
        "page: a job of 5,000, best first": page(job=SMALL, **best),
        "page: a job of 200,000, two verdicts of one category, best first": page(job=LARGE, filters=some, **best),
        "search: a rare word": page(filters=Filters(text=rare), **best),
        "search: a word of the middle": page(filters=Filters(text=middle), **best),
        "search: a common word": page(filters=Filters(text=common), **best),
        "search: a common and a rare word": page(filters=Filters(text=f"{common} {rare}"), **best),
        "search: three common words and a filter": page(filters=Filters(text=" ".join(words[20:23]), safety=frozenset({"concerning"})), **best),
        "search: one letter": page(filters=Filters(text=rare[:1]), **best),
        "search: two letters": page(filters=Filters(text=rare[:2]), **best),
        "search: three letters": page(filters=Filters(text=rare[:3]), **best),
        "search: four letters": page(filters=Filters(text=middle[:4]), **best),
        "search: no such word": page(filters=Filters(text="xylophone"), **best),
        "search: two letters that begin no word": page(filters=Filters(text="xq"), **best),
        "search in a job of 5,000: two letters": page(job=SMALL, filters=Filters(text=rare[:2]), **best),
        "search in a job of 200,000: a word of the middle": page(job=LARGE, filters=Filters(text=middle), **best),
        "counts by facet: all": lambda store: store.counts("default"),
        "counts by facet: filters": lambda store: store.counts("default", filters=some),
        "counts by facet: a word of the middle": lambda store: store.counts("default", filters=Filters(text=middle)),
        "counts by facet: a common word": lambda store: store.counts("default", filters=Filters(text=common)),
        "counts by facet: two letters in a job of 5,000": lambda store: store.counts("default", job=SMALL, filters=Filters(text=rare[:2])),
    }


def measured(ask: Callable[[JobStore], object], store: JobStore) -> tuple[list[float], str]:
    """Milliseconds of each of some runs after a first one, and what came back."""
    answer = ask(store)
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        ask(store)
        times.append((time.perf_counter() - started) * 1000)
    return times, f"{len(answer.cards)}{'+' if answer.next else ''}" if isinstance(answer, Page) else f"{answer.total}"  # type: ignore[attr-defined]


def main() -> None:
    gc.set_threshold(100_000, 50, 100)
    words = vocabulary(30_000, random.Random(7))
    programs = postgres_programs()
    with tempfile.TemporaryDirectory() as name:
        compare({"SQLite": StoreSettings(url=f"sqlite:///{name}/explain.db")}, words, Path(name))
    if programs is not None:
        with RealPostgres(programs) as postgres:
            compare({"PostgreSQL": postgres.new_store()}, words, None)


def compare(stores: dict[str, StoreSettings], words: list[str], folder: Path | None) -> None:
    """Build stores and print how long questions take."""
    for kind, settings in stores.items():
        written, indexed = fill(settings)
        with reading(settings) as store:
            size = sizes(store, folder)
            table = [[what, spread(times, 1), came] for what, (times, came) in ((what, measured(ask, store)) for what, ask in asked(words).items())]
        columns = ("question", "ms (goals: page < 50, search < 200)", "cards, + when there are more")
        print_table(
            f"Lists and search in {ROWS:,} explanations ({kind})",
            columns,
            table,
            note=f"written in {written:.0f} µs each, indexed or analysed in {indexed:.0f} µs; {size}",
        )
        sys.stdout.flush()


def sizes(store: JobStore, folder: Path | None) -> str:
    """How large the store is."""
    if folder is not None:
        return f"file {sum(path.stat().st_size for path in folder.iterdir()) / 1e9:.2f} GB"
    relations = "select relname::text, pg_total_relation_size(oid) from pg_class where relkind = 'r' and relname in ('card', 'body', 'outcome') order by 1"
    return ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in store._db.all(relations))  # noqa: SLF001


if __name__ == "__main__":
    main()
