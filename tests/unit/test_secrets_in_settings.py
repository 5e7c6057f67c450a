"""Settings hold no secrets, only where they are: logs, error messages and `config show` show settings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from mistudio_explain.errors import BadSettings
from mistudio_explain.settings import Settings, load

SECRET = "hunter2"


@pytest.mark.parametrize(
    "flags",
    [
        {"store": {"url": f"postgresql://explain:{SECRET}@db.lab/explain"}},
        {"store": {"url": f"postgresql://explain@db.lab/explain?sslmode=require&password={SECRET}"}},
        {"gateway": {"access_url": f"postgresql://explain:{SECRET}@db.lab/explain"}},
        {"llm": {"endpoints": [{"name": "gpu0", "provider": "openai", "url": f"http://me:{SECRET}@10.0.0.7/v1"}]}},
        {"reports": {"s3_endpoint": f"https://me:{SECRET}@minio.lab"}},
        {"webhooks": {"receivers": [{"name": "score", "url": f"https://me:{SECRET}@score.lab/hook", "secret_file": "score.secret"}]}},
    ],
)
def test_an_address_with_a_password_in_it_is_refused_without_repeating_it(flags: dict[str, object]) -> None:
    with pytest.raises(BadSettings, match="holds a password") as refused:
        load(flags=flags)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql://explain@db.lab/explain", "sqlite:////var/lib/explain.db", "sqlite:///state/explain.db"])
def test_an_address_without_one_is_taken(url: str) -> None:
    assert load(flags={"store": {"url": url}}).settings.store.url == url


def fields(model: type[BaseModel]) -> Iterator[tuple[str, object]]:
    """Every setting's name and type, those of endpoints, receivers and the like too."""
    for name, info in model.model_fields.items():
        groups = [each for each in (info.annotation, *get_args(info.annotation)) if isinstance(each, type) and issubclass(each, BaseModel)]
        for group in groups:
            yield from fields(group)
        if not groups:
            yield name, info.annotation


def test_no_setting_is_a_secret_but_the_file_or_the_variable_that_holds_it() -> None:
    about_secrets = [(name, kind) for name, kind in fields(Settings) if re.search("secret|password|api_key|keyfile", name)]
    assert len(about_secrets) >= 7
    assert [name for name, kind in about_secrets if Path not in (kind, *get_args(kind)) and not name.endswith("_env")] == []
