"""The command `mistudio-explain`: its sub-commands, and how errors become exit codes.

0 done, 1 partial or incomplete, 2 bad input or usage, 3 something that is configured cannot be reached.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mistudio_explain import __version__
from mistudio_explain.cli.dlq_commands import dlq
from mistudio_explain.cli.job_commands import job
from mistudio_explain.cli.key_commands import AUDIT_EXAMPLE, audit, keys
from mistudio_explain.cli.model_commands import models
from mistudio_explain.cli.options import AsJson, Config, Job, Profile, Who, Why, examples
from mistudio_explain.cli.plan_command import PLAN_EXAMPLES, plan
from mistudio_explain.cli.review_commands import REVIEW_EXAMPLE, REVIEWS_EXAMPLE, review, reviews
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

app.add_typer(dlq, name="dlq")
app.add_typer(job, name="job")
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")
app.command(epilog=AUDIT_EXAMPLE)(audit)
app.command(epilog=PLAN_EXAMPLES)(plan)
app.command(epilog=REVIEW_EXAMPLE)(review)
app.command(epilog=REVIEWS_EXAMPLE)(reviews)

FindJobId = Annotated[str | None, typer.Option("--find-job", help="Id of a miStudioFind job; needs --data-root.", show_default=False)]
DataRoot = Annotated[Path | None, typer.Option("--data-root", help="miStudio's data folder, in which results/find/ lies.", show_default=False)]
TargetModel = Annotated[
    str | None, typer.Option("--target-model", help="The model that the features belong to, when the input names none.", show_default=False)
]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Leave bad features out, say which, and go on with the rest.")]
ExplainPoor = Annotated[bool | None, typer.Option("--explain-poor/--skip-poor", help="Explain features below the coherence threshold too.", show_default=False)]
Input = Annotated[
    Path | None,
    typer.Argument(
        help="A file that miStudioFind wrote, or a file or folder of Neuronpedia, SAEDashboard, OpenAI's neuron records or JSON Lines.", show_default=False
    ),
]
InputFormat = Annotated[
    str, typer.Option("--format", help="auto, find, neuronpedia, saedashboard, openai or jsonl; auto looks at the input and says what it saw.")
]
Candidates = Annotated[
    int | None, typer.Option("--candidates", min=1, max=10, help="Answers asked for each feature, the best of which is taken.", show_default=False)
]
Reopen = Annotated[bool, typer.Option("--reopen", help="Explain a job that was cancelled or deleted anew, under its next revision.")]


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mistudio-explain {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Options before the sub-command."""


@app.command(epilog=examples("mistudio-explain run examples/gpt2-small/feature_analysis.json --explain-poor --out out"))
def run(
    path: Input = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the report; default: reports.directory.", show_default=False)] = None,
    find_job: FindJobId = None,
    data_root: DataRoot = None,
    input_format: InputFormat = "auto",
    target_model: TargetModel = None,
    explain_poor: ExplainPoor = None,
    candidates: Candidates = None,
    keep_going: KeepGoing = False,
    reopen: Reopen = False,
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

    order = InputOrder(path, find_job, data_root, target_model, keep_going, explain_poor, reopen, candidates, input_format)
    raise typer.Exit(run_job(order, out=out, dry_run=dry_run, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain up --config mistudio-explain.toml"))
def up(config: Config = None, profile: Profile = None) -> None:
    """Run all services and the gateway in this process until it is stopped; with the embedded broker unless Kafka is configured."""
    from mistudio_explain.cli.serve import up_all

    raise typer.Exit(up_all(config=config, profile=profile))


@app.command(epilog=examples("mistudio-explain serve context validation --health-port 8081"))
def serve(
    services: Annotated[list[str], typer.Argument(help="context, generation, validation, escalation, aggregator, redelivery, replayer, gateway.")],
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


@app.command(
    epilog=examples("mistudio-explain explain feature.json --stream", "mistudio-explain explain results/find/find_X_results.json --feature 348 --json")
)
def explain(
    path: Annotated[Path, typer.Argument(help="A feature in either of miStudioFind's shapes, or features in any format that `run` reads.")],
    feature: Annotated[
        str | None, typer.Option("--feature", help="Which feature of the file; one of a layer is named layer/feature.", show_default=False)
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show the answer while the model writes it.")] = False,
    find_job: Annotated[
        str | None,
        typer.Option("--find-job", help="The find job of a feature in a file of its own: it is compared with that job's features.", show_default=False),
    ] = None,
    target_model: TargetModel = None,
    route: Annotated[str | None, typer.Option("--route", help="Explainer model to use.", show_default=False)] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Prompt template to use, as name@version.", show_default=False)] = None,
    candidates: Candidates = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, help="Give up after so many seconds.")] = 300.0,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Explain one feature now, and say how far to believe the explanation; poor features too.

    With Kafka configured, its services do it through the express lane, before all batches; without, this process does,
    and nothing is kept. Ctrl-C breaks the model's call off. The other features of a file are what one of it is compared with.
    """
    from mistudio_explain.cli.explain import FeatureOrder, explain_feature

    order = FeatureOrder(path, feature, find_job, target_model, route, prompt, candidates, timeout_s)
    raise typer.Exit(explain_feature(order, stream=stream, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain publish feature_analysis.json --config mistudio-explain.toml"))
def publish(
    path: Input = None,
    find_job: FindJobId = None,
    data_root: DataRoot = None,
    input_format: InputFormat = "auto",
    target_model: TargetModel = None,
    explain_poor: ExplainPoor = None,
    candidates: Candidates = None,
    keep_going: KeepGoing = False,
    reopen: Reopen = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Publish a find job's features to the configured Kafka and seal the job."""
    from mistudio_explain.cli.order import InputOrder
    from mistudio_explain.cli.publish import publish_job_file

    order = InputOrder(path, find_job, data_root, target_model, keep_going, explain_poor, reopen, candidates, input_format)
    raise typer.Exit(publish_job_file(order, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain watch explain_20250726_151321_d9675dce"))
def watch(job: Job, config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Follow a job on the configured Kafka until it is at an end."""
    from mistudio_explain.cli.watch import watch_job

    raise typer.Exit(watch_job(job, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain cancel explain_20250726_151321_d9675dce --why 'wrong model'"))
def cancel(job: Job, who: Who = None, why: Why = None, config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Stop a job: what waits of it ends as skipped, calls that run are cut off, what is explained stays."""
    from mistudio_explain.cli.jobs import cancel_job

    raise typer.Exit(cancel_job(job, who=who, why=why, config=config, profile=profile, as_json=as_json))


@app.command(
    epilog=examples("mistudio-explain report explain_20250726_151321_d9675dce --format pdf", "mistudio-explain report explain_1 --format all --out out")
)
def report(
    job: Job,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="json, html, csv, txt, jsonl, parquet, pdf or all; several: csv,pdf. Default: reports.formats.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the files; default: reports.directory.", show_default=False)] = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Write a job's files from the store as it stands, finished or not; or those of a file that `score` wrote, in the place of JOB."""
    from mistudio_explain.cli.report import write_report

    raise typer.Exit(write_report(job, formats=formats or [], out=out, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain archive", "mistudio-explain archive explain_1 --verify"))
def archive(
    job: Annotated[str | None, typer.Argument(help="An explain job's id; all jobs without it.", show_default=False)] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the files with the hashes they were written with; ends with 1 when one differs.")] = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Show what was ever written of jobs and removed: the archive index beside the reports, to which entries are only added."""
    from mistudio_explain.cli.archive import show_archive

    raise typer.Exit(show_archive(job, verify=verify, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain replay --from-job find_1 --where 'category=technical and quality<0.6' --route llama3.1:70b"))
def replay(
    from_job: Annotated[str, typer.Option("--from-job", help="The find job whose features are explained again.")],
    of: Annotated[
        str | None, typer.Option("--of", help="The explain job whose features and outcomes are meant; default: the find job's own.", show_default=False)
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="Only features whose outcome fits, such as 'category=technical and quality<0.6'.", show_default=False)
    ] = None,
    features: Annotated[str | None, typer.Option("--features", help="Only these, such as '5,7,layer 12/5'.", show_default=False)] = None,
    failed_only: Annotated[bool, typer.Option("--failed-only", help="Only features that failed.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Only features published from then on: 2026-11-24, 2026-11-24T08:30 (UTC), or 24h ago as 24h.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only features published before then.")] = None,
    route: Annotated[str | None, typer.Option("--route", help="Explainer model to use.", show_default=False)] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Prompt template to use, as name@version.", show_default=False)] = None,
    explain_poor: ExplainPoor = None,
    candidates: Candidates = None,
    new_job: Annotated[str | None, typer.Option("--as", help="Id of the new job; default: the find job's, _replay_ and the time.", show_default=False)] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from-file", help="Take the features out of Find's file, when Kafka no longer has them.", show_default=False)
    ] = None,
    target_model: TargetModel = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many, how long it takes and what it costs; do nothing.")] = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Explain features of a find job again under a new job: with another model or prompt, all of them or some."""
    from mistudio_explain.cli.replay import replay_job
    from mistudio_explain.replay.order import ReplayOrder

    order = ReplayOrder(from_job, of, where, features, route, prompt, since, until, failed_only, explain_poor, new_job, from_file, target_model, candidates)
    raise typer.Exit(replay_job(order, dry_run=dry_run, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain compare explain_1 explain_1_replay_20261124_083000 --by model"))
def compare(
    jobs: Annotated[list[str], typer.Argument(help="Two or more explain jobs of one find job, or files of `score`; the others are compared with the first.")],
    by: Annotated[str | None, typer.Option("--by", help="Group by model, prompt or category.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Features shown side by side, those that changed most.")] = 10,
    same_background: Annotated[
        bool, typer.Option("--same-background", help="Leave features out that the jobs scored against different backgrounds, instead of refusing.")
    ] = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Say what changed between jobs: verdicts, scores with 95% intervals, latency, tokens, cost, and the texts side by side."""
    from mistudio_explain.cli.compare import compare_jobs

    raise typer.Exit(compare_jobs(jobs, by=by, limit=limit, same_background=same_background, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain topics create", "mistudio-explain topics check --json", "mistudio-explain topics gc --idle-days 14 --yes"))
def topics(
    action: Annotated[str, typer.Argument(help="create, check or gc.")],
    idle_days: Annotated[float, typer.Option("--idle-days", min=0, help="gc: how old a lane's newest record must be.")] = 7.0,
    yes: Annotated[bool, typer.Option("--yes", help="gc: remove the lanes, and do not only list them.")] = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Make the topics on the configured Kafka, compare them with what they should be, or remove idle lanes.

    gc lists the lanes of target models, and with --yes removes those in which every record is finished and the newest
    is older than --idle-days, and those that retention has emptied. A lane that nothing was ever written to stays, as
    do `express` and `shared`. A lane comes back by itself with its target model's next feature.
    """
    from mistudio_explain.cli.topics import run_topics

    raise typer.Exit(run_topics(action, idle_days=idle_days, yes=yes, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain lag --watch", "mistudio-explain lag --sample 10 --json"))
def lag(
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    sample: Annotated[
        float, typer.Option("--sample", min=0.1, max=600, help="Seconds between the two readings that rates come from; with --watch, between refreshes.")
    ] = 2.0,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Show how far each consumer group is behind, by topic and target model.

    `lag` is Kafka's count: end less committed offset (the whole log where a group never committed). `unfinished` leaves
    out what is finished beyond the committed offset and what expired; `in flight` are those that a consumer has taken
    already, as lanes tell with their commits (`-`: nobody tells). Rates tell what groups committed between two
    readings; `drain` is when nothing is left at that rate if nothing is added.
    """
    from mistudio_explain.cli.lag import show_lag

    raise typer.Exit(show_lag(watch=watch, sample_s=sample, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain evaluate examples/features --out out/evaluation"))
def evaluate(
    directory: Annotated[Path, typer.Argument(help="Feature sets, JSON Lines, one source a file; examples/features/README.md says how.")] = Path(
        "examples/features"
    ),
    out: Annotated[Path, typer.Option("--out", help="Folder for the tables (Markdown, JSON) and the reliability pictures.")] = Path("out/evaluation"),
    minilm: Annotated[
        bool | None, typer.Option("--minilm/--static", help="With MiniLM too, or without; default: when the extra `minilm` is installed.", show_default=False)
    ] = None,
    safety: Annotated[Path, typer.Option("--safety", help="Folder of labelled bundles; without them safety is left out.")] = Path("examples/safety"),
    latency: Annotated[bool, typer.Option("--latency", help="Measure time and memory too, in processes of their own: needs a quiet core.")] = False,
    from_reviews: Annotated[
        str | None,
        typer.Option("--from-reviews", help="Instead: hold it against people, in a job of the store, a report's JSON or lines of `score`.", show_default=False),
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="With --from-reviews: print coefficients fitted to what people say; nothing is changed.")] = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Measure the validator on real features: discrimination, calibration, verdicts, attacks and safety; each source with coefficients fitted without it."""
    if from_reviews is not None:
        from mistudio_explain.cli.from_reviews import evaluate_reviews

        raise typer.Exit(evaluate_reviews(from_reviews, refitted=refit, config=config, profile=profile, as_json=as_json))
    from mistudio_explain.cli.evaluate import evaluate_sets

    raise typer.Exit(evaluate_sets(directory, out=out, safety=safety, timed=latency, minilm=minilm, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain doctor --config mistudio-explain.toml"))
def doctor(config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Say what is reachable: the broker and what it can do, the LLM endpoints and their models, the store, the report folder."""
    from mistudio_explain.cli.doctor import examine

    raise typer.Exit(examine(config=config, profile=profile, as_json=as_json))


@app.command(
    epilog=examples(
        "mistudio-explain score pairs.jsonl --out scores.jsonl", "zcat pairs.jsonl.gz | mistudio-explain score - --out - | jq .pattern_verification"
    )
)
def score(
    pairs: Annotated[Path, typer.Argument(help="JSON Lines, or - for what is piped in (kept in a temporary file meanwhile, for it is read twice).")],
    out: Annotated[Path, typer.Option("--out", help="The lines with their scores; - for the standard output.")],
    minilm: Annotated[bool, typer.Option("--minilm", help="Score with the larger text model too; needs the extra `minilm`.")] = False,
    evidence: Annotated[bool, typer.Option("--evidence", help="Write the scored texts too, seen and held out, as scores refer to them by number.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=64, help="Processes; default: one for each core from 2,000 lines on.", show_default=False)
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", help="Have a model of [[llm.endpoints]] test them: detection, fuzzing, or both as detection,fuzzing.", show_default=False),
    ] = None,
    judge_scores: Annotated[Path | None, typer.Option("--judge-scores", help="Folder for the judge's answers, in delphi's format.", show_default=False)] = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Say how far to believe given explanations: offline, without Kafka and, unless a judge is asked for, without an LLM.

    A line of PAIRS is {"job": "find_1", "feature": {...}, "explanation": "..."}: the feature in either of
    miStudioFind's shapes, also with tokens, token_activations, active_tokens or top_logits; a target_model may be added.
    Features of one job are each other's background; a feature may stand in several lines and counts once. A job of
    fewer than 9 features is scored against a stored general background and flagged `no_contrast`. Each line comes out
    in its place with the fields of its outcome. One that cannot be scored has an `error` instead, and the exit code is 1.
    """
    from mistudio_explain.cli.score import score_pairs

    raise typer.Exit(
        score_pairs(
            pairs,
            out=out,
            minilm=minilm,
            evidence=evidence,
            workers=workers,
            judge=judge,
            judge_scores=judge_scores,
            config=config,
            profile=profile,
            as_json=as_json,
        )
    )


@app.command(epilog=examples("mistudio-explain pairs exports/gpt2-small/0-res-jb --out pairs.jsonl && mistudio-explain score pairs.jsonl --out scores.jsonl"))
def pairs(
    path: Annotated[Path, typer.Argument(help="Neuronpedia's folder of a source or API answers, delphi's folder, OpenAI's results, or JSON Lines.")],
    out: Annotated[Path, typer.Option("--out", help="The lines; - for the standard output.")],
    speech: Annotated[str, typer.Option("--format", help="auto, neuronpedia, delphi, openai or jsonl: whose explanations these are.")] = "auto",
    features: Annotated[
        Path | None, typer.Option("--features", help="Where the features stand, in any format that `run` reads; default: in PATH.", show_default=False)
    ] = None,
    target_model: TargetModel = None,
    find_job: Annotated[str | None, typer.Option("--find-job", help="What the lines call their job; default: after the input.", show_default=False)] = None,
    keep_going: KeepGoing = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Take explanations of other projects as lines that `score` takes, so that they can be scored and compared.

    Exit code 1 when something was left out: features that cannot be used, or explanations of features that are not there.
    """
    from mistudio_explain.cli.pairs import write_pairs

    raise typer.Exit(
        write_pairs(
            path,
            speech,
            features=features,
            target_model=target_model,
            find_job=find_job,
            keep_going=keep_going,
            out=out,
            config=config,
            profile=profile,
            as_json=as_json,
        )
    )


@app.command(epilog=examples("mistudio-explain export explain_1 --format neuronpedia --out exports --model-id gpt2-small"))
def export(
    job: Job,
    form: Annotated[str, typer.Option("--format", help="neuronpedia (batch files that it imports) or delphi (its folder of explanations).")],
    out: Annotated[Path, typer.Option("--out", help="The folder, which must be new or empty.")],
    model_id: Annotated[
        str | None, typer.Option("--model-id", help="Neuronpedia's name of the model; default: after the target model.", show_default=False)
    ] = None,
    creator_id: Annotated[
        str | None,
        typer.Option("--creator-id", help="The Neuronpedia user that the records belong to; default: the one that SAEDashboard names.", show_default=False),
    ] = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Write a job's explanations from the store, or those of a file that `score` wrote, in the form that another project reads.

    Exit code 1 when explained features had no place in it.
    """
    from mistudio_explain.cli.export import export_job

    raise typer.Exit(export_job(job, form, out=out, model_id=model_id, creator_id=creator_id, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain rescore explain_1", "mistudio-explain rescore explain_1 --all --json"))
def rescore(
    job: Job,
    every: Annotated[bool, typer.Option("--all", help="Score those too that this version scored against a complete background.")] = False,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Validate a job's explanations anew, under the next revision, without any call of a model.

    Scored again are those that an earlier version of the validator scored, and provisional ones. Reads the store for the
    explanations and sends them to the validation service.
    """
    from mistudio_explain.cli.rescore import rescore_job

    raise typer.Exit(rescore_job(job, every=every, config=config, profile=profile, as_json=as_json))


FromFile = Annotated[Path, typer.Option("--from", help="Lines of pairs (as `score` takes them or gives them), or features in any format that `run` reads.")]
OfJob = Annotated[str | None, typer.Option("--job", help="The job meant, when the lines are of several.", show_default=False)]


@app.command("compare-features", epilog=examples("mistudio-explain compare-features 348 351 --from scores.jsonl"))
def compare_features(
    first: Annotated[str, typer.Argument(help="A feature; one of a layer is named layer/feature.")],
    second: Annotated[str, typer.Argument(help="Another feature of the same job.")],
    source: FromFile,
    job: OfJob = None,
    target_model: TargetModel = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Say what tells two similar features apart: words, words they fire on, how each explanation fits both, promoted tokens, shared texts."""
    from mistudio_explain.cli.compare_features import compare_two

    raise typer.Exit(compare_two(first, second, source=source, job=job, target_model=target_model, config=config, profile=profile, as_json=as_json))


@app.command(epilog=examples("mistudio-explain families scores.jsonl --threshold 0.7"))
def families(
    source: Annotated[Path, typer.Argument(help="Lines of pairs (as `score` takes them or gives them), or features in any format that `run` reads.")],
    threshold: Annotated[float, typer.Option("--threshold", min=0.0, max=1.0, help="Likeness that every pair of a family must have.")] = 0.6,
    job: OfJob = None,
    target_model: TargetModel = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Find features of a job that are the same one several times, by their texts and explanations."""
    from mistudio_explain.cli.compare_features import show_families

    raise typer.Exit(show_families(source, threshold=threshold, job=job, target_model=target_model, config=config, profile=profile, as_json=as_json))


@app.command("config", epilog=examples("mistudio-explain config show --json"))
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
