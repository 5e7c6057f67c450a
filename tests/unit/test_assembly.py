"""What a process loads before it can work: a restart is waited for."""

import subprocess
import sys
from pathlib import Path

import pytest

ASSEMBLE = """
import asyncio, sys
from pathlib import Path
import mistudio_explain.cli.main, mistudio_explain.cli.serve
from mistudio_explain.assembly import assembled
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.settings import KafkaSettings, Settings, StoreSettings

async def assemble(service, folder):
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9"), store=StoreSettings(url=f"sqlite:///{folder}/explain.db"))
    async with assembled(settings, KafkaClients(settings.kafka, settings.limits), [service]):
        print(*sys.modules)

asyncio.run(assemble(*sys.argv[1:]))
"""

MODEL_CLIENTS = {"openai", "ollama", "xllamacpp"}
NUMBERS = {"numpy", "wordllama", "tokenizers"}
SERVERS = {"psycopg", "starlette"}
TEMPLATES = {"jinja2"}


def loaded(program: str, *arguments: str) -> set[str]:
    """The modules that a program, run by an interpreter of its own, says it has loaded."""
    return set(subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    ("service", "foreign"),
    [
        ("aggregator", MODEL_CLIENTS | NUMBERS | SERVERS | TEMPLATES),
        ("redelivery", MODEL_CLIENTS | NUMBERS | SERVERS | TEMPLATES),
        ("replayer", MODEL_CLIENTS | NUMBERS | SERVERS),  # which makes prompts again to score drafts again
        ("context", MODEL_CLIENTS | NUMBERS | SERVERS),
        ("validation", MODEL_CLIENTS | SERVERS | TEMPLATES),
    ],
)
def test_a_service_starts_without_what_only_others_need(tmp_path: Path, service: str, foreign: set[str]) -> None:
    modules = loaded(ASSEMBLE, service, str(tmp_path))
    assert "mistudio_explain.kafka.app" in modules
    assert modules & foreign == set()


def test_the_list_of_commands_loads_none_of_what_they_do() -> None:
    modules = loaded("import sys, mistudio_explain.cli.main; print(*sys.modules)")
    assert modules & {"aiokafka", "faststream", "pydantic", "mistudio_explain.assembly", *MODEL_CLIENTS, *NUMBERS, *SERVERS, *TEMPLATES} == set()
