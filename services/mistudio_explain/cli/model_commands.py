"""The commands `models ...`: their options."""

from typing import Annotated

import typer

from mistudio_explain.cli.options import AsJson, Config, Profile, examples

models = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog=examples("mistudio-explain models", "mistudio-explain models --json", "mistudio-explain models pull llama3.1:8b --endpoint gpu0"),
)

Name = Annotated[str, typer.Argument(help="A model as Ollama names it, such as llama3.1:8b.")]
At = Annotated[
    str | None,
    typer.Option("--endpoint", help="Only at this endpoint, or at the servers of this discovery; default: every Ollama of the settings.", show_default=False),
]


@models.callback()
def models_command(context: typer.Context, config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """The models of the LLM endpoints: which there are, which are loaded, what they take; or fetch, load and unload them.

    Memory is what a loaded model takes, as measured by its server, or with a ~ what one would need: its file, and the
    keys and values of llm.context_tokens in every slot. Uses are calls that workers on this store have had answered.
    Ends with 3 when an endpoint does not serve.
    """
    if context.invoked_subcommand is not None:
        return
    from mistudio_explain.cli.models import show_models

    raise typer.Exit(show_models(config=config, profile=profile, as_json=as_json))


@models.command("pull", epilog=examples("mistudio-explain models pull llama3.1:8b", "mistudio-explain models pull mistral:7b --endpoint gpu1 --json"))
def pull_command(name: Name, endpoint: At = None, config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Let Ollama fetch a model from its registry: the server needs the network, this machine does not."""
    from mistudio_explain.cli.model_orders import pull_model

    raise typer.Exit(pull_model(name, endpoint, config=config, profile=profile, as_json=as_json))


@models.command("warm", epilog=examples("mistudio-explain models warm llama3.1:8b --endpoint gpu0"))
def warm_command(name: Name, endpoint: At = None, config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Load a model with the context that calls ask for (llm.context_tokens), so that the first one need not wait.

    Refused, with the arithmetic, where the endpoint's memory_gb does not hold it beside what is loaded.
    """
    from mistudio_explain.cli.model_orders import warm_model

    raise typer.Exit(warm_model(name, endpoint, config=config, profile=profile, as_json=as_json))


@models.command("unload", epilog=examples("mistudio-explain models unload llama3.1:70b --endpoint gpu0"))
def unload_command(name: Name, endpoint: At = None, config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Free the memory that a model takes, as soon as its calls have ended; the next call loads it again."""
    from mistudio_explain.cli.model_orders import unload_model

    raise typer.Exit(unload_model(name, endpoint, config=config, profile=profile, as_json=as_json))
