"""The command `plan`: its options."""

from typing import Annotated

import typer

from mistudio_explain.cli.options import AsJson, Config, Profile, examples

PLAN_EXAMPLES = examples(
    "mistudio-explain plan --features 10000 --endpoints 2 --slots 4 --tokens-per-s 120",
    "mistudio-explain plan --features 10000000 --endpoints 100 --like explain_1 --watts 350 --usd-per-kwh 0.30 --drain-hours 48 --json",
)


def plan(
    features: Annotated[float, typer.Option("--features", help="How many features.", show_default=False)],
    target_models: Annotated[float, typer.Option("--target-models", help="Models that they belong to: each has a lane.")] = 1,
    model: Annotated[str | None, typer.Option("--model", help="The explainer model, for its price.", show_default=False)] = None,
    endpoints: Annotated[
        float | None, typer.Option("--endpoints", help="LLM servers; default: those that the settings come to now, as `models` shows them.", show_default=False)
    ] = None,
    slots: Annotated[
        float | None, typer.Option("--slots", help="Calls at once at each; default: as the settings or the servers say.", show_default=False)
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", help="A job whose report says how long a call takes, how many tokens it has, and how many features cost one.")
    ] = None,
    seconds_per_call: Annotated[
        float | None, typer.Option("--seconds-per-call", help="A call's time with all slots busy; else from --tokens-per-s or --like.", show_default=False)
    ] = None,
    tokens_per_s: Annotated[
        float | None, typer.Option("--tokens-per-s", help="Answer tokens a second of one endpoint, all its slots together.", show_default=False)
    ] = None,
    prompt_tokens_per_s: Annotated[
        float | None, typer.Option("--prompt-tokens-per-s", help="Prompt tokens that one endpoint reads in a second.", show_default=False)
    ] = None,
    tokens_in: Annotated[float | None, typer.Option("--tokens-in", help="Tokens of a prompt.", show_default=False)] = None,
    tokens_out: Annotated[float | None, typer.Option("--tokens-out", help="Tokens of an answer.", show_default=False)] = None,
    drain_hours: Annotated[float | None, typer.Option("--drain-hours", help="All must be done within so many hours.", show_default=False)] = None,
    watts: Annotated[float | None, typer.Option("--watts", help="Power of what one endpoint runs on.", show_default=False)] = None,
    usd_per_kwh: Annotated[
        float | None, typer.Option("--usd-per-kwh", help="Price of electricity; default: cost.electricity_usd_per_kwh.", show_default=False)
    ] = None,
    feature_kb: Annotated[float, typer.Option("--feature-kb", help="Size of a feature as an event, 1000 bytes.")] = 6,
    brokers: Annotated[float, typer.Option("--brokers", help="Kafka brokers.")] = 3,
    partitions: Annotated[
        float | None, typer.Option("--partitions", help="Partitions of each lane; default: a multiple of the endpoints.", show_default=False)
    ] = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Say how long so many features take and what they need: hours, USD, kWh, replicas, partitions, disk, network.

    Each number is shown with where it comes from: measured by which benchmark or job, given by you, set, or the
    specification's bound. What nobody said is left out with the reason. Nothing is published, no model is called.
    """
    from mistudio_explain.cli.plan import Asked, show_plan

    asked = Asked(
        features=features,
        target_models=target_models,
        model=model,
        endpoints=endpoints,
        slots=slots,
        like=like,
        seconds_per_call=seconds_per_call,
        tokens_per_s=tokens_per_s,
        prompt_tokens_per_s=prompt_tokens_per_s,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        drain_hours=drain_hours,
        watts=watts,
        usd_per_kwh=usd_per_kwh,
        feature_kb=feature_kb,
        brokers=brokers,
        partitions=partitions,
    )
    raise typer.Exit(show_plan(asked, config=config, profile=profile, as_json=as_json))
