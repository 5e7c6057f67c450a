"""The commands `review` and `reviews`: their options."""

from enum import StrEnum
from typing import Annotated

import typer

from mistudio_explain.cli.options import AsJson, Config, Job, Profile, examples

REVIEW_EXAMPLE = examples("mistudio-explain review explain_1 348 --verdict wrong --corrected 'Names of dogs.' --why 'no text is about schemas'")
REVIEWS_EXAMPLE = examples("mistudio-explain reviews explain_1 --json")


class Verdict(StrEnum):
    """What a person can say of an explanation."""

    RIGHT = "right"
    PARTLY = "partly"
    WRONG = "wrong"
    UNCLEAR = "unclear"


def review(
    job: Job,
    feature: Annotated[str, typer.Argument(help="The feature's key in the job, as reports show it.")],
    verdict: Annotated[Verdict, typer.Option("--verdict", help="What you say of the explanation.")],
    corrected: Annotated[str | None, typer.Option("--corrected", help="What it should have said.", show_default=False)] = None,
    who: Annotated[str | None, typer.Option("--who", help="Who says so; default: your login name.", show_default=False)] = None,
    why: Annotated[str | None, typer.Option("--why", help="Why.", show_default=False)] = None,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Say whether an explanation is right; the job's report shows it, and it replaces what was said of it before."""
    from mistudio_explain.cli.review import Said, review_feature

    said = Said(job, feature, verdict.value, corrected, who, why)
    raise typer.Exit(review_feature(said, config=config, profile=profile, as_json=as_json))


def reviews(job: Job, config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Show what people say of a job's explanations, beside the verdict that the texts gave."""
    from mistudio_explain.cli.review import list_reviews

    raise typer.Exit(list_reviews(job, config=config, profile=profile, as_json=as_json))
