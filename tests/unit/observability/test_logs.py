"""What logs say of errors: never a text, an answer or a secret."""

import logging

import pytest
import structlog
from pydantic import BaseModel, ValidationError

from mistudio_explain.errors import BadInput, told
from mistudio_explain.generation.unusable import Malformed
from mistudio_explain.llm.failures import ConnectionDropped
from mistudio_explain.observability.logs import configure

TEXT = "MARK-7f3a as a feature's text"


class Model(BaseModel):
    number: int


def raised_by(kind: str) -> Exception:
    try:
        match kind:
            case "a validation":
                Model.model_validate({"number": TEXT})
            case "bytes":
                (TEXT.encode() + b"\xff").decode()
            case "a number":
                float(TEXT)
            case "a key":
                {}[TEXT]
            case "an answer":
                raise Malformed("the field 'label' is missing", TEXT)
            case "a server":
                raise ConnectionDropped(f"400: cannot read {TEXT}")
            case "a group":
                raise ExceptionGroup("several", [ValueError(TEXT), ValidationError.from_exception_data(TEXT, [])])
            case "a cause":
                try:
                    raise ValueError(TEXT)
                except ValueError as cause:
                    raise OSError("the disk is full") from cause
            case "a context":
                try:
                    float(TEXT)
                except ValueError:
                    raise OSError("the disk is full")  # noqa: B904
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError(kind)


KINDS = ("a validation", "bytes", "a number", "a key", "an answer", "a server", "a group", "a cause", "a context")


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_logged_error_says_where_it_comes_from_and_quotes_no_text(kind: str, as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    error = raised_by(kind)
    configure("debug", as_json=as_json)
    structlog.get_logger("a").error("it.failed", error=told(error), exc_info=error)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    logged = capsys.readouterr().err
    assert logged.count(type(error).__name__) >= 3
    assert logged.count("raised_by") >= 2
    assert "MARK" not in logged


def test_what_quotes_nothing_is_logged_with_its_message() -> None:
    assert told(OSError("the disk is full")) == "OSError: the disk is full"
    assert told(BadInput("x.json: there is no such file")) == "BadInput: x.json: there is no such file"
    assert told(TimeoutError()) == "TimeoutError"


def test_what_others_named_forges_no_line_and_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug", as_json=False)
    structlog.get_logger("a").warning("job.unreadable", key="explain_1\n2026-01-01 [info] all is well\x1b[2J\x1b]0;title\x07\u202e", offset=3)
    logging.getLogger("aiokafka").error("%s", "a\rb\x1b[31m")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert not any(character in line for line in lines for character in "\x1b\x07\r\u202e")
