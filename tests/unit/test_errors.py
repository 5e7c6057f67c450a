"""Errors are told in the words of whoever asked."""

import pytest

from mistudio_explain.errors import BadInput, ExplainError, either, option, told


def test_an_option_is_named_as_the_command_line_has_it_and_over_http_as_a_field() -> None:
    error = BadInput(f"nothing fits; loosen {option('--failed-only')} or choose another {option('--as', 'new_job')}")
    assert str(error) == "nothing fits; loosen --failed-only or choose another --as"
    assert error.over_http == "nothing fits; loosen failed_only or choose another new_job"


def test_what_is_advised_may_be_said_otherwise_or_not_at_all() -> None:
    error = ExplainError(f"the job is completed{either('; `job delete` removes it', '')}")
    assert (str(error), error.over_http) == ("the job is completed; `job delete` removes it", "the job is completed")


def test_a_message_within_another_keeps_both() -> None:
    inner = BadInput(f"add {option('--keep-going')}")
    outer = BadInput(f"a.json: {inner.args[0]}")
    assert (str(outer), outer.over_http) == ("a.json: add --keep-going", "a.json: add keep_going")


def test_logs_have_the_words_of_the_command_line() -> None:
    assert told(BadInput(f"add {option('--reopen')}")) == "BadInput: add --reopen"


@pytest.mark.parametrize("text", ["\ue000", "\ue000a\ue001", "\ue002\ue001\ue000", "\ue000\ue000a\ue001b\ue002"])
def test_marks_that_an_input_brings_do_no_harm(text: str) -> None:
    error = BadInput(f"{text!s} is no id; add {option('--reopen')}")
    assert "is no id; add --reopen" in str(error)
    assert "is no id; add reopen" in error.over_http
