import pytest

from mistudio_explain.cli.report import formats_of
from mistudio_explain.errors import BadInput
from mistudio_explain.reporting.formats import Format


def test_formats_are_named_one_by_one_or_several_at_once() -> None:
    assert formats_of(["pdf", "csv, JSON"]) == (Format.JSON, Format.CSV, Format.PDF)
    assert formats_of(["all"]) == tuple(Format)
    assert formats_of([]) == ()


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"no format 'doc', 'pfd'; there are json, html, .*pdf and all"):
        formats_of(["pfd", "doc", "csv"])
