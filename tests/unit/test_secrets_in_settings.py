"""Addresses in settings hold no secrets: logs and error messages show them."""

import pytest

from mistudio_explain.errors import BadSettings
from mistudio_explain.settings import load

SECRET = "hunter2"


@pytest.mark.parametrize(
    "flags",
    [
        {"store": {"url": f"postgresql://explain:{SECRET}@db.lab/explain"}},
        {"store": {"url": f"postgresql://explain@db.lab/explain?sslmode=require&password={SECRET}"}},
        {"gateway": {"access_url": f"postgresql://explain:{SECRET}@db.lab/explain"}},
        {"llm": {"endpoints": [{"name": "gpu0", "provider": "openai", "url": f"http://me:{SECRET}@10.0.0.7/v1"}]}},
    ],
)
def test_an_address_with_a_password_in_it_is_refused_without_repeating_it(flags: dict[str, object]) -> None:
    with pytest.raises(BadSettings, match="holds a password") as refused:
        load(flags=flags)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql://explain@db.lab/explain", "sqlite:////var/lib/explain.db", "sqlite:///state/explain.db"])
def test_an_address_without_one_is_taken(url: str) -> None:
    assert load(flags={"store": {"url": url}}).settings.store.url == url
