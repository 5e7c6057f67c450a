"""The commands `keys ...` and `audit`: their options."""

from typing import Annotated

import typer

from mistudio_explain.cli.options import AsJson, Config, Profile, examples

keys = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make, list and revoke the gateway's API keys. Until the first is made, the gateway answers this machine alone and asks for none.",
    epilog=examples("mistudio-explain keys create --name 'CI of the lab' --scope write", "mistudio-explain keys revoke k3v7a2qd"),
)

OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only those of this tenant.", show_default=False)]


@keys.command("create", epilog=examples("mistudio-explain keys create --name 'Ada, explorer' --scope write --tenant lab"))
def create_command(
    name: Annotated[str, typer.Option("--name", help="Whose key it is, or what for.")],
    scope: Annotated[str, typer.Option("--scope", help="read, write (orders and reviews too) or admin (the audit log and operations too).")] = "read",
    tenant: Annotated[str, typer.Option("--tenant", help="Whose jobs it is for.")] = "default",
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, once: only its hash is kept. Gateways take it within two seconds."""
    from mistudio_explain.cli.keys import create_key

    raise typer.Exit(create_key(name, scope, tenant, config=config, profile=profile, as_json=as_json))


@keys.command("list", epilog=examples("mistudio-explain keys list --tenant lab --json"))
def list_command(tenant: OfTenant = None, config: Config = None, profile: Profile = None, as_json: AsJson = False) -> None:
    """Show every key that was ever made, revoked ones included, without the keys themselves."""
    from mistudio_explain.cli.keys import list_keys

    raise typer.Exit(list_keys(tenant, config=config, profile=profile, as_json=as_json))


@keys.command("revoke", epilog=examples("mistudio-explain keys revoke k3v7a2qd"))
def revoke_command(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")],
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Let a key open nothing any more. Gateways refuse it within two seconds, and end the streams that it opened."""
    from mistudio_explain.cli.keys import revoke_key

    raise typer.Exit(revoke_key(key_id, config=config, profile=profile, as_json=as_json))


def audit(
    tenant: OfTenant = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, newest first.")] = 100,
    config: Config = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Show who did what through the gateway, and which keys were made and revoked, newest first.

    Orders and reviews are listed, those that were refused too, and files that were handed out. No texts stand here.
    """
    from mistudio_explain.cli.keys import show_audit

    raise typer.Exit(show_audit(tenant, limit, config=config, profile=profile, as_json=as_json))


AUDIT_EXAMPLE = examples("mistudio-explain audit --limit 20", "mistudio-explain audit --tenant lab --json")
