"""The input that `run` and `publish` are given."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mistudio_explain.cli.show import console, error_line, plain
from mistudio_explain.errors import BadInput
from mistudio_explain.intake.formats.choice import read_input as read
from mistudio_explain.intake.locate import locate
from mistudio_explain.intake.order import check_something_is_explained
from mistudio_explain.intake.stage import FindJob
from mistudio_explain.settings import Settings


@dataclass(frozen=True, slots=True)
class InputOrder:
    """The options that name an input."""

    path: Path | None
    find_job: str | None
    data_root: Path | None
    target_model: str | None
    keep_going: bool
    explain_poor: bool | None
    reopen: bool = False
    candidates: int | None = None
    format: str = "auto"

    @property
    def flags(self) -> Mapping[str, Mapping[str, int]]:
        """The options that are settings."""
        poor = {} if self.explain_poor is None else {"quality": {"explain_poor": self.explain_poor}}
        return poor if self.candidates is None else poor | {"generation": {"candidates": self.candidates}}


def read_input(order: InputOrder, settings: Settings) -> FindJob:
    """Read and check the input; raises BadInput, also when no feature reaches the threshold and poor ones are to be skipped."""
    job = read(
        _path(order),
        order.format,
        target_model=order.target_model,
        find_job_id=order.find_job,
        event_bytes=settings.limits.event_bytes,
        keep_going=order.keep_going,
    )
    for note in job.notes:
        console(stderr=True).print(plain(note))
    for problem in job.problems:
        error_line(f"left out: {problem}")
    check_something_is_explained(job, settings)
    return job


def _path(order: InputOrder) -> Path:
    if order.path is not None:
        return order.path
    if order.find_job is None or order.data_root is None:
        raise BadInput("name an input: a file, or --find-job ID together with --data-root DIR")
    return locate(order.find_job, order.data_root)
