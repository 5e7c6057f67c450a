"""`lag`: how far each group is behind, by topic and target model."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from aiokafka.errors import KafkaError
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mistudio_explain.cli.show import console, plain, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadSettings
from mistudio_explain.events.topics import EXPRESS, PROMPTS_PREFIX, SHARED
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.lag import LagReader
from mistudio_explain.observability.lag_figures import LagFigures, LagReading, Readings, document, figures
from mistudio_explain.settings import Settings

_COLUMNS = ("group", "topic", "target model", "lag", "unfinished", "in flight", "oldest", "rate", "drain")
_WRAPPED = {"topic": None, "target model": None}
_WIDTH_OF_A_FILE = 300
_RATE_OVER_S = 30.0
_NONE = "-"

Show = Callable[[LagReading, Sequence[LagFigures]], None]


def show_lag(*, watch: bool, sample_s: float, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show lag once, or again and again until it is interrupted; ends with 1 when something could not be read."""
    settings = prepare(config=config, profile=profile, quiet=True)
    if settings.kafka.bootstrap_servers is None:
        raise BadSettings("kafka.bootstrap_servers is not set: the embedded broker of `run` and `up` keeps no consumer groups, so there is no lag to show")
    if not watch:
        reading = asyncio.run(_once(settings, sample_s, _print_json if as_json else _print_table))
        return 0 if reading.is_complete else 1
    try:
        asyncio.run(_watch(settings, sample_s, as_json=as_json))
    except KeyboardInterrupt:
        return 0
    return 0


async def _once(settings: Settings, sample_s: float, show: Show) -> LagReading:
    async with _reader(settings, settings.kafka.start_timeout_s) as reader:
        earlier = await reader.offsets()
        await asyncio.sleep(sample_s)
        reading = await reader.read()
    show(reading, figures(reading, earlier))
    return reading


async def _watch(settings: Settings, every_s: float, *, as_json: bool) -> None:
    screen = console()
    if as_json or not screen.is_terminal:
        await _follow(settings, every_s, _print_json if as_json else _print_lines, _print_away)
        return
    with Live(Text("reading ..."), console=screen, auto_refresh=False) as live:

        def show(reading: LagReading, rows: Sequence[LagFigures]) -> None:
            live.update(Group(_table(rows), *_remarks(reading, rows)), refresh=True)

        def show_away(why: str) -> None:
            live.update(Text(plain(why), style="red"), refresh=True)

        await _follow(settings, every_s, show, show_away)


async def _follow(settings: Settings, every_s: float, show: Show, show_away: Callable[[str], None]) -> None:
    """Read and show for ever; rates are over the last half minute. A Kafka that goes away is waited for, however long."""
    patience_s: float | None = settings.kafka.start_timeout_s
    while True:
        readings = Readings(max(_RATE_OVER_S, 1.5 * every_s))
        try:
            async with _reader(settings, patience_s) as reader:
                patience_s = None
                while True:
                    reading = await reader.read()
                    show(reading, readings.add(reading))
                    await asyncio.sleep(every_s)
        except (KafkaError, OSError) as error:  # a timeout is an OSError
            show_away(f"{datetime.now(UTC):%H:%M:%S} Kafka at {settings.kafka.bootstrap_servers} does not answer ({str(error) or type(error).__name__})")
            await asyncio.sleep(every_s)


@asynccontextmanager
async def _reader(settings: Settings, patience_s: float | None) -> AsyncIterator[LagReader]:
    clients = KafkaClients(settings.kafka, settings.limits)
    await clients.wait_until_reachable(patience_s)
    async with clients.admin() as admin:
        yield LagReader(admin, escalates=settings.escalation.enabled)


def _print_table(reading: LagReading, rows: Sequence[LagFigures]) -> None:
    screen = console()
    if not screen.is_terminal:
        screen.width = _WIDTH_OF_A_FILE  # a line for each row
    screen.print(_table(rows))
    for remark in _remarks(reading, rows):
        screen.print(remark)


def _table(rows: Sequence[LagFigures]) -> Table:
    return table(None, _COLUMNS, (_cells(row) for row in rows), wrap=_WRAPPED)


def _cells(row: LagFigures) -> tuple[str, ...]:
    return (
        row.group.rpartition(".")[2],
        _short(row.topic),
        _model(row),
        str(row.lag),
        str(row.unfinished),
        _NONE if row.in_flight is None else str(row.in_flight),
        _NONE if row.oldest_age_s is None else _span(row.oldest_age_s),
        _NONE if row.rate is None else f"{row.rate:.1f}/s",
        _NONE if row.drain_s is None else _span(row.drain_s),
    )


def _short(topic: str) -> str:
    return topic.removeprefix("mistudio.").removeprefix("explain.")


def _model(row: LagFigures) -> str:
    if row.target_model is not None:
        return row.target_model
    is_lane = row.topic.startswith(PROMPTS_PREFIX) and row.topic not in (EXPRESS, SHARED)
    return f"lane {row.topic.removeprefix(PROMPTS_PREFIX)}" if is_lane else "several"


def _to_know(row: LagFigures) -> list[str]:
    told: list[tuple[object, str]] = [
        (row.unfinished and not row.members, "the group has no member"),
        (row.uncommitted and row.lag, f"{row.uncommitted} of {row.partitions} partitions never committed"),
        (row.beyond_end, f"{row.beyond_end} of {row.partitions} partitions committed beyond the log's end"),
        (row.expired, f"{row.expired} expired unread"),
    ]
    return [words for applies, words in told if applies]


def _remarks(reading: LagReading, rows: Sequence[LagFigures]) -> list[Text]:
    """What the table cannot show, and what could not be read."""
    known = [f"{_short(row.topic)}: {'; '.join(words)}" for row in rows if (words := _to_know(row))]
    missing = [f"{topic} does not exist; make it with `mistudio-explain topics create`" for topic in reading.missing]
    leaderless = [f"{part.topic}/{part.partition} has no leader that answers; it is not counted" for part in reading.unavailable]
    return [Text(plain(line)) for line in known] + [Text(plain(line), style="red") for line in missing + leaderless]


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _print_lines(reading: LagReading, rows: Sequence[LagFigures]) -> None:
    screen = console()
    for row in rows:
        told = ", ".join(f"{name} {cell}" for name, cell in zip(_COLUMNS[3:], _cells(row)[3:], strict=True) if cell != _NONE)
        known = "".join(f", {words}" for words in _to_know(row))
        screen.print(plain(f"{_clock(reading)} {row.group} {row.topic} ({_model(row)}): {told}{known}"))
    for remark in _remarks(reading, ()):
        screen.print(remark)


def _print_away(why: str) -> None:
    console(stderr=True).print(plain(why))


def _clock(reading: LagReading) -> str:
    return f"{datetime.fromtimestamp(reading.at_s, UTC):%H:%M:%S}"


def _print_json(reading: LagReading, rows: Sequence[LagFigures]) -> None:
    print_json(document(reading, rows))
