"""What tests do about a component that this machine lacks: skip, or fail where everything must run."""

import os
from typing import NoReturn

import pytest

REQUIRE_ALL = "MISTUDIO_EXPLAIN_TEST_REQUIRE_ALL"


def all_required() -> bool:
    """Whether a missing component is a failure (`MISTUDIO_EXPLAIN_TEST_REQUIRE_ALL=1`, as in `.ci/run`)."""
    return os.environ.get(REQUIRE_ALL, "") not in ("", "0")


def require(component: str, reason: str) -> NoReturn:
    """Skip the test because `component` is missing, or fail it where every component is required.

    `reason` says what is missing and what to do.
    """
    if all_required():
        pytest.fail(f"{component} is missing, and {REQUIRE_ALL} is set: {reason}", pytrace=False)
    pytest.skip(f"{component} is missing: {reason}")
