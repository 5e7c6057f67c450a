"""The commands `job ...`: their options."""

from typing import Annotated

import typer

from mistudio_explain.cli.options import AsJson, Config, Job, Profile, Who, Why, examples

job = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at explain jobs, and delete them.",
    epilog=examples("mistudio-explain job list", "mistudio-explain job show explain_1", "mistudio-explain job delete explain_1 --yes"),
)


@job.command("list", epilog=examples("mistudio-explain job list --find-job find_1", "mistudio-explain job list --json"))
def list_command(
    find_job: Annotated[str | None, typer.Option("--find-job", help="Only jobs that explain this find job.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, those heard of last; all without it.", show_default=False)] = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Show the jobs, last heard of first.

    They come from the configured Kafka, the store, or both.
    """
    from mistudio_explain.cli.jobs import list_jobs

    raise typer.Exit(list_jobs(find_job, limit, config=config, profile=profile, as_json=as_json))


@job.command("show", epilog=examples("mistudio-explain job show explain_20250726_151321_d9675dce"))
def show_command(job: Job, config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Show everything of one job.

    Its numbers, what was said and ordered of it, where its features come from, and where its files are.
    """
    from mistudio_explain.cli.jobs import show_job

    raise typer.Exit(show_job(job, config=config, profile=profile, as_json=as_json))


@job.command("delete", epilog=examples("mistudio-explain job delete explain_20250726_151321_d9675dce --yes --why 'texts withdrawn'"))
def delete_command(
    job: Job,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it, and do not only say what would be deleted.")] = False,
    who: Who = None,
    why: Why = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Delete a job and its files.

    Its outcomes, report, reviews, dead letters, rows, cached answers and files are removed; the aggregator carries the
    order out. What stands in topics that forget by age stays until then: the command says which, and until when. The
    find job's features are not the job's: they stay in find.features.
    """
    from mistudio_explain.cli.jobs import delete_job

    raise typer.Exit(delete_job(job, yes=yes, who=who, why=why, config=config, profile=profile, as_json=as_json))
