"""The command `mistudio-explain`: its sub-commands, and how errors become exit codes.

0 done, 1 partial or incomplete, 2 bad input or usage, 3 something that is configured cannot be reached.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mistudio_explain import __version__
from mistudio_explain.cli.show import error_line
from mistudio_explain.errors import ExplainError, Unreachable

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Explains what the features of a language model detect, and says how far to believe each explanation.",
    epilog="Exit codes: 0 done, 1 partial or incomplete, 2 bad input or usage, 3 something configured is unreachable.",
)

Config = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default: mistudio-explain.toml in the working directory.", show_default=False)
]
Profile = Annotated[str | None, typer.Option("--profile", help="Table [profile.NAME] of the configuration file to lay over it.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
FindJobId = Annotated[str | None, typer.Option("--find-job", help="Id of a miStudioFind job; needs --data-root.", show_default=False)]
DataRoot = Annotated[Path | None, typer.Option("--data-root", help="miStudio's data folder, in which results/find/ lies.", show_default=False)]
TargetModel = Annotated[
    str | None, typer.Option("--target-model", help="The model that the features belong to, when the input names none.", show_default=False)
]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Leave bad features out, say which, and go on with the rest.")]
ExplainPoor = Annotated[bool | None, typer.Option("--explain-poor/--skip-poor", help="Explain features below the coherence threshold too.", show_default=False)]
Input = Annotated[Path | None, typer.Argument(help="A file that miStudioFind wrote.", show_default=False)]
Job = Annotated[str, typer.Argument(help="An explain job's id.")]


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Options before the sub-command."""
    if version:
        typer.echo(f"mistudio-explain {__version__}")
        raise typer.Exit


@app.command(epilog="Example: mistudio-explain run examples/gpt2-small/feature_analysis.json --explain-poor --out out")
def run(
    path: Input = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the report; default: reports.directory.", show_default=False)] = None,
    find_job: FindJobId = None,
    data_root: DataRoot = None,
    target_model: TargetModel = None,
    explain_poor: ExplainPoor = None,
    keep_going: KeepGoing = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be explained, how long it takes and what it costs; do nothing.")] = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Explain a find job from start to report in this one process, on the embedded broker unless Kafka is configured.

    On the embedded broker nothing outlives the run but the report: its rows are in no store afterwards.
    """
    from mistudio_explain.cli.order import InputOrder
    from mistudio_explain.cli.run import run_job

    order = InputOrder(path, find_job, data_root, target_model, keep_going, explain_poor)
    raise typer.Exit(run_job(order, out=out, dry_run=dry_run, config=config, profile=profile, as_json=as_json))


@app.command(epilog="Example: mistudio-explain up --config mistudio-explain.toml")
def up(config: Config = None, profile: Profile = None) -> None:
    """Run all services in this process until it is stopped; with the embedded broker unless Kafka is configured."""
    from mistudio_explain.cli.serve import up_all

    raise typer.Exit(up_all(config=config, profile=profile))


@app.command(epilog="Example: mistudio-explain serve context validation --health-port 8081")
def serve(
    services: Annotated[list[str], typer.Argument(help="context, generation, validation, aggregator.")],
    health_port: Annotated[
        int | None, typer.Option("--health-port", min=1, max=65535, help="Port of /livez, /readyz and /metrics; none without it.", show_default=False)
    ] = None,
    health_host: Annotated[str, typer.Option("--health-host", help="Address of the health port.")] = "127.0.0.1",
    config: Config = None,
    profile: Profile = None,
) -> None:
    """Run some services against the configured Kafka until they are stopped."""
    from mistudio_explain.cli.serve import serve_services

    raise typer.Exit(serve_services(services, health_host=health_host, health_port=health_port, config=config, profile=profile))


@app.command(epilog="Example: mistudio-explain publish feature_analysis.json --config mistudio-explain.toml")
def publish(
    path: Input = None,
    find_job: FindJobId = None,
    data_root: DataRoot = None,
    target_model: TargetModel = None,
    explain_poor: ExplainPoor = None,
    keep_going: KeepGoing = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Publish a find job's features to the configured Kafka and seal the job."""
    from mistudio_explain.cli.order import InputOrder
    from mistudio_explain.cli.publish import publish_job_file

    order = InputOrder(path, find_job, data_root, target_model, keep_going, explain_poor)
    raise typer.Exit(publish_job_file(order, config=config, profile=profile, as_json=as_json))


@app.command(epilog="Example: mistudio-explain watch explain_20250726_151321_d9675dce")
def watch(job: Job, config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Follow a job on the configured Kafka until it is at an end."""
    from mistudio_explain.cli.watch import watch_job

    raise typer.Exit(watch_job(job, config=config, profile=profile, as_json=as_json))


@app.command(epilog="Example: mistudio-explain report explain_20250726_151321_d9675dce --out reports")
def report(
    job: Job,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the files; default: reports.directory.", show_default=False)] = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Write a job's files from the store as it stands, finished or not."""
    from mistudio_explain.cli.report import write_report

    raise typer.Exit(write_report(job, out=out, config=config, profile=profile, as_json=as_json))


@app.command(epilog="Examples: mistudio-explain topics create; mistudio-explain topics check --json")
def topics(
    action: Annotated[str, typer.Argument(help="create or check.")],
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Make the topics on the configured Kafka, or compare their partitions and configuration with what they should be."""
    from mistudio_explain.cli.topics import run_topics

    raise typer.Exit(run_topics(action, config=config, profile=profile, as_json=as_json))


@app.command(epilog="Example: mistudio-explain doctor --config mistudio-explain.toml")
def doctor(config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Say what is reachable: the broker and what it can do, the LLM endpoints and their models, the store, the report folder."""
    from mistudio_explain.cli.doctor import examine

    raise typer.Exit(examine(config=config, profile=profile, as_json=as_json))


@app.command("config", epilog="Example: mistudio-explain config show --json")
def config_command(
    action: Annotated[str, typer.Argument(help="show.")],
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Show every setting, its value and where the value comes from."""
    from mistudio_explain.cli.config import run_config

    raise typer.Exit(run_config(action, config=config, profile=profile, as_json=as_json))


def main() -> None:
    """Entry point: an error on purpose is one message and its exit code, never a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        error_line("interrupted")
        sys.exit(1)
    except Exception as error:
        cause = _single_cause(error)
        if isinstance(cause, ExplainError):
            error_line(str(cause))
            sys.exit(cause.exit_code)
        if type(cause).__module__.startswith("aiokafka"):  # told by name: to import it here would slow every --help down
            error_line(f"Kafka: {type(cause).__name__}: {cause}; look at it with `mistudio-explain doctor`")
            sys.exit(Unreachable.exit_code)
        raise


def _single_cause(error: Exception) -> Exception:
    """What a group of errors comes down to when it holds only one."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    main()
