"""`dlq list|show|retry|drop|resume`: the dead letters of the configured Kafka."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from mistudio_explain.cli.configured import reached, with_kafka, writing
from mistudio_explain.cli.letter_text import as_json as letter_json
from mistudio_explain.cli.letter_text import letter_list, moment, whole_json, whole_text
from mistudio_explain.cli.show import console, fits, plain, print_json, table
from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import DeadLetter
from mistudio_explain.kafka.letter_box import Kept, Letters, Wanted, read_letters, take_back, whole_letters
from mistudio_explain.kafka.letter_retry import Retried, Retry, Said
from mistudio_explain.kafka.orders import read_jobs
from mistudio_explain.kafka.pauses import Pause, read_pauses, resume
from mistudio_explain.replay.moments import moment_ms
from mistudio_explain.settings import Settings

_SHOWN = 50


@dataclass(frozen=True, slots=True)
class LetterOrder:
    """The options that say which letters are meant."""

    keys: tuple[str, ...] = ()
    job: str | None = None
    feature: str | None = None
    topic: str | None = None
    service: str | None = None
    error: str | None = None
    since: str | None = None
    until: str | None = None
    limit: int | None = None
    everything: bool = False

    def wanted(self) -> Wanted:
        """The conditions; raises BadInput for a moment that is none."""
        now = datetime.now(UTC)
        return Wanted(
            keys=frozenset(self.keys),
            job=self.job,
            feature=self.feature,
            topic=self.topic,
            service=self.service,
            error=self.error,
            since_ms=None if self.since is None else moment_ms(self.since, now, "--since"),
            until_ms=None if self.until is None else moment_ms(self.until, now, "--until"),
        )

    def chosen(self, verb: str) -> Wanted:
        """The conditions of a command that changes something; raises BadInput when there is none and `--all` is not given."""
        wanted = self.wanted()
        if wanted.is_everything and not self.everything:
            raise BadInput(f"say which letters to {verb}: by key, by conditions such as --job or --error, or --all")
        if self.everything and not wanted.is_everything:
            raise BadInput("--all means every letter; leave it out where keys or conditions are given")
        return wanted


def list_letters(order: LetterOrder, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the letters that are meant, and every paused partition."""
    settings = with_kafka("dlq list", config=config, profile=profile)
    wanted = order.wanted()
    pauses, letters = asyncio.run(_read(settings))
    found = [kept for kept in letters.kept if wanted.meets(kept)]
    limit = order.limit or (len(found) if as_json else _SHOWN)
    shown = found[-limit:] if limit else []
    if as_json:
        for pause in pauses:
            print_json({"event": "paused", "key": pause.name} | (pause.paused.model_dump(mode="json") if pause.paused else {"unreadable": True}))
        for kept in shown:
            print_json(letter_json(kept))
        print_json({"event": "count", "letters": len(letters.kept), "found": len(found), "shown": len(shown)})
        return 0
    out = console()
    if pauses:
        out.print("paused partitions; `mistudio-explain dlq resume` lets them go on", style="bold")
        out.print(_pause_list(pauses, out))
    if shown:
        out.print(letter_list(shown, out))
    out.print(_counted(len(letters.kept), len(found), len(shown), filtered=not wanted.is_everything))
    return 0


def show_letter(key: str, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show one letter whole."""
    settings = with_kafka("dlq show", config=config, profile=profile)
    kept, letter = asyncio.run(_one(settings, key))
    if as_json:
        print_json(letter_json(kept) if letter is None else whole_json(kept, letter))
    elif letter is None:
        console().print(Text(plain(f"{kept.name} holds no dead letter that can be read: {kept.unreadable}")))
    else:
        console().print(Text(whole_text(kept, letter)))
    return 0


def retry_letters(order: LetterOrder, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Send letters' records again, saying of each what became of it; ends with 1 when one could not be sent."""
    settings = with_kafka("dlq retry", config=config, profile=profile)
    wanted = order.chosen("retry")
    results: list[Retried] = []

    def said(result: Retried) -> None:
        results.append(result)
        if as_json:
            print_json({"event": "not_retried" if result.refused else "retried", "key": result.key, **_fate(result)})
        elif result.refused:
            console().print(Text(plain(f"not retried {result.key}: {result.refused}"), style="red"))
        else:
            console().print(Text(plain(f"retried {result.key}, to {result.topic} as revision {result.revision}")))

    asyncio.run(_retry(settings, order, wanted, said))
    refused = sum(1 for result in results if result.refused)
    if as_json:
        print_json({"event": "count", "retried": len(results) - refused, "not_retried": refused})
    else:
        console().print("no letter is meant by that" if not results else f"{len(results) - refused} retried{f', {refused} not' if refused else ''}")
    return 1 if refused else 0


def drop_letters(order: LetterOrder, *, yes: bool, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Take letters back; without `yes` only say which, which ends with 2."""
    settings = with_kafka("dlq drop", config=config, profile=profile)
    wanted = order.chosen("drop")
    found, unknown = asyncio.run(_drop(settings, order, wanted, yes=yes))
    if as_json:
        for kept in found:
            print_json(letter_json(kept) | {"event": "dropped" if yes else "would_drop"})
        print_json({"event": "count", "dropped": len(found) if yes else 0, "found": len(found), "unknown": unknown})
    else:
        out = console()
        if found:
            out.print(letter_list(found, out))
        for key in unknown:
            out.print(Text(plain(f"not dropped {key}: there is no such letter"), style="red"))
        if yes or not found:
            out.print(f"{len(found)} dropped" if found else "no letter is meant by that")
        else:
            out.print(f"{len(found)} would be dropped, and with them the only copy of their bytes that is sure to stay; add --yes to do it")
    if unknown:
        return 1
    return 0 if yes or not found else 2


def resume_partitions(topic: str | None, partition: int | None, service: str | None, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Let paused partitions go on; ends with 1 when others are paused than those that are meant."""
    settings = with_kafka("dlq resume", config=config, profile=profile)
    pauses, resumed = asyncio.run(_resume(settings, topic, partition, service))
    if as_json:
        print_json({"resumed": [pause.name for pause in resumed], "paused": [pause.name for pause in pauses if pause not in resumed]})
    elif resumed:
        for pause in resumed:
            console().print(Text(plain(f"resumed {pause.name}")))
    elif pauses:
        console().print(Text(plain(f"none of the paused partitions is meant by that; paused are {', '.join(pause.name for pause in pauses)}")))
    else:
        console().print("no partition is paused")
    return 1 if pauses and not resumed else 0


async def _read(settings: Settings) -> tuple[list[Pause], Letters]:
    clients = await reached(settings)
    return await read_pauses(clients), await read_letters(clients)


async def _one(settings: Settings, key: str) -> tuple[Kept, DeadLetter | None]:
    clients = await reached(settings)
    letters = await read_letters(clients)
    kept = next((kept for kept in letters.kept if kept.name == key), None)
    if kept is None:
        raise BadInput(f"there is no dead letter {key!r}; `mistudio-explain dlq list` shows those that there are")
    async with aclosing(whole_letters(clients, [kept])) as whole:
        async for _, letter in whole:
            return kept, letter
    return kept, None


async def _retry(settings: Settings, order: LetterOrder, wanted: Wanted, said: Said) -> None:
    clients = await reached(settings)
    letters = await read_letters(clients)
    found, unknown = _meant(letters, order, wanted)
    for key in unknown:
        said(Retried(key, refused="there is no such letter"))
    if found:
        jobs = await read_jobs(clients)
        async with writing(settings, clients) as producer, clients.admin() as admin:
            await Retry(settings, clients, producer, admin, jobs).send(letters, found, said)


async def _drop(settings: Settings, order: LetterOrder, wanted: Wanted, *, yes: bool) -> tuple[Sequence[Kept], list[str]]:
    clients = await reached(settings)
    found, unknown = _meant(await read_letters(clients), order, wanted)
    if yes and found:
        async with writing(settings, clients) as producer:
            await take_back(producer, [kept.key for kept in found])
    return found, unknown


def _meant(letters: Letters, order: LetterOrder, wanted: Wanted) -> tuple[Sequence[Kept], list[str]]:
    """The letters that are meant, at most `limit`, and the keys that no letter has."""
    known = {kept.name for kept in letters.kept}
    found = [kept for kept in letters.kept if wanted.meets(kept)]
    return found[: order.limit], [key for key in dict.fromkeys(order.keys) if key not in known]


async def _resume(settings: Settings, topic: str | None, partition: int | None, service: str | None) -> tuple[list[Pause], list[Pause]]:
    clients = await reached(settings)
    pauses = await read_pauses(clients)
    meant = [pause for pause in pauses if pause.is_of(topic, partition, service)]
    if meant:
        async with writing(settings, clients) as producer:
            await resume(producer, meant)
    return pauses, meant


def _pause_list(pauses: Sequence[Pause], out: Console) -> RenderableType:
    """A table where the terminal has room for it, else two lines for each partition."""
    rows: list[Sequence[str]] = []
    for pause in pauses:
        if (paused := pause.paused) is None:
            rows.append((pause.name, "?", "", "", "the record cannot be read"))
        else:
            letters = f"{paused.letters} in {paused.window_s:.0f} s"
            rows.append((f"{paused.topic}/{paused.partition}", paused.service, moment(paused.at_ms), letters, paused.error))
    made = table(None, ("partition", "service", "since (UTC)", "letters", "last error"), rows)
    if fits(out, made):
        return made
    return Group(*(Text("  ".join(plain(cell) for cell in row[:-1]) + "\n  " + plain(row[-1])) for row in rows))


def _counted(total: int, found: int, shown: int, *, filtered: bool) -> str:
    if total == 0:
        return "there are no dead letters"
    counted = f"{found} of {total} dead letters" if filtered else f"{total} dead letters" if total > 1 else "1 dead letter"
    return counted if shown == found else f"{counted}, the newest {shown} shown; --limit shows more"


def _fate(result: Retried) -> dict[str, object]:
    return {"why": result.refused} if result.refused else {"topic": result.topic, "revision": result.revision}
