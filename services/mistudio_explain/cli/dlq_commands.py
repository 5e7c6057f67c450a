"""The commands `dlq ...`: their options."""

from typing import Annotated

import typer

from mistudio_explain.cli.options import AsJson, Config, Profile, examples

dlq = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Records that could not be handled (dead letters): look at them, send them again, drop them.",
    epilog=examples("mistudio-explain dlq list --job explain_1", "mistudio-explain dlq retry --error EvidenceError", "mistudio-explain dlq resume"),
)

_KEY = "topic/partition/offset, as `dlq list` shows it"
Keys = Annotated[list[str] | None, typer.Argument(help=f"Letters by key: {_KEY}.", show_default=False)]
OfJob = Annotated[str | None, typer.Option("--job", help="Only letters of this explain job.", show_default=False)]
OfFeature = Annotated[str | None, typer.Option("--feature", help="Only letters of this feature key.", show_default=False)]
OfTopic = Annotated[
    str | None, typer.Option("--topic", help="Only from this topic, or from those whose names end so: drafts, find.features.", show_default=False)
]
OfService = Annotated[str | None, typer.Option("--service", help="Only those that this service gave up.", show_default=False)]
OfError = Annotated[str | None, typer.Option("--error", help="Only with this error class, or with these words in the message.", show_default=False)]
Since = Annotated[str | None, typer.Option("--since", help="Only from then on: 2026-11-24, 2026-11-24T08:30 (UTC), or 24h ago as 24h.", show_default=False)]
Until = Annotated[str | None, typer.Option("--until", help="Only before then.", show_default=False)]
Newest = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, the newest; without it 50 as text, all as JSON.", show_default=False)]
Oldest = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, the oldest.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All letters, where no key and no condition is given.")]


@dlq.command("list", epilog=examples("mistudio-explain dlq list --since 24h", "mistudio-explain dlq list --topic drafts --json"))
def list_command(
    job: OfJob = None,
    feature: OfFeature = None,
    topic: OfTopic = None,
    service: OfService = None,
    error: OfError = None,
    since: Since = None,
    until: Until = None,
    limit: Newest = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Show the letters, newest last.

    The partitions that services paused because they gave too many letters stand at the top.
    """
    from mistudio_explain.cli.dlq import LetterOrder, list_letters

    order = LetterOrder((), job, feature, topic, service, error, since, until, limit)
    raise typer.Exit(list_letters(order, config=config, profile=profile, as_json=as_json))


@dlq.command("show", epilog=examples("mistudio-explain dlq show mistudio.find.features/2/1234"))
def show_command(key: Annotated[str, typer.Argument(help=_KEY)], config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Show everything of one letter.

    Why it was given up, its headers, and the event that its bytes are.
    """
    from mistudio_explain.cli.dlq import show_letter

    raise typer.Exit(show_letter(key, config=config, profile=profile, as_json=as_json))


@dlq.command("retry", epilog=examples("mistudio-explain dlq retry mistudio.find.features/2/1234", "mistudio-explain dlq retry --job explain_1 --limit 10"))
def retry_command(
    keys: Keys = None,
    job: OfJob = None,
    feature: OfFeature = None,
    topic: OfTopic = None,
    service: OfService = None,
    error: OfError = None,
    since: Since = None,
    until: Until = None,
    limit: Oldest = None,
    everything: All = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Send letters' records again.

    They go to their services with the next revision, and the letters are taken back; an explained outcome replaces the
    failed one. A record that fails again comes back as a letter under the same key. Ends with 1 when some could not be sent.
    """
    from mistudio_explain.cli.dlq import LetterOrder, retry_letters

    order = LetterOrder(tuple(keys or ()), job, feature, topic, service, error, since, until, limit, everything)
    raise typer.Exit(retry_letters(order, config=config, profile=profile, as_json=as_json))


@dlq.command("drop", epilog=examples("mistudio-explain dlq drop mistudio.find.features/2/1234 --yes", "mistudio-explain dlq drop --until 30d --yes"))
def drop_command(
    keys: Keys = None,
    job: OfJob = None,
    feature: OfFeature = None,
    topic: OfTopic = None,
    service: OfService = None,
    error: OfError = None,
    since: Since = None,
    until: Until = None,
    limit: Oldest = None,
    everything: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Drop them, and do not only say which.")] = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Drop letters for good.

    Their records are not sent again; a feature that failed stays failed in its report.
    """
    from mistudio_explain.cli.dlq import LetterOrder, drop_letters

    order = LetterOrder(tuple(keys or ()), job, feature, topic, service, error, since, until, limit, everything)
    raise typer.Exit(drop_letters(order, yes=yes, config=config, profile=profile, as_json=as_json))


@dlq.command("resume", epilog=examples("mistudio-explain dlq resume", "mistudio-explain dlq resume --topic find.features --partition 2"))
def resume_command(
    topic: Annotated[str | None, typer.Option("--topic", help="Only partitions of this topic, or of those whose names end so.", show_default=False)] = None,
    partition: Annotated[int | None, typer.Option("--partition", min=0, help="Only partitions of this number.", show_default=False)] = None,
    service: Annotated[str | None, typer.Option("--service", help="Only partitions that this service paused.", show_default=False)] = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Let paused partitions go on.

    A service pauses a partition that gives too many dead letters; it reads on by itself once that is taken back.
    """
    from mistudio_explain.cli.dlq import resume_partitions

    raise typer.Exit(resume_partitions(topic, partition, service, config=config, profile=profile, as_json=as_json))
