"""`export`: a job's explanations in the form that another project reads."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mistudio_explain.cli.scored import job_of
from mistudio_explain.cli.show import console, plain, print_json
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadInput
from mistudio_explain.reporting.delphi import write_delphi
from mistudio_explain.reporting.neuronpedia import CREATOR, Target, write_neuronpedia
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import read_outcomes, reading

FORMATS = ("neuronpedia", "delphi")
_NAMED = 5


def export_job(job: str, form: str, *, out: Path, model_id: str | None, creator_id: str | None, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Write the folder and say what is in it; 1 when explained features had no place in it."""
    if form not in FORMATS:
        raise BadInput(f"--format {form!r}: one of {', '.join(FORMATS)} was expected")
    settings = prepare(config=config, profile=profile, quiet=True)
    with job_of(job, settings) as (stored, meant), _new_folder(out) as folder:
        at_ms = _heard_ms(stored, meant)
        outcomes = read_outcomes(stored.store, meant)
        if form == "neuronpedia":
            batches = write_neuronpedia(folder, outcomes, at_ms, Target(model_id, creator_id or CREATOR))
            told = {"features": batches.features, "explanations": batches.explanations, "texts": batches.texts}
            notes = {"texts without tokens are left out": batches.without_tokens, **_listed("features whose id is no number are left out", batches.unnumbered)}
            left_out = len(batches.unnumbered)
        else:
            files = write_delphi(folder, outcomes)
            told = {"explanations": files.explanations}
            notes, left_out = dict(_listed("features whose id is no number got one", files.renumbered)), 0
    if as_json:
        print_json({"explain_job_id": job, "format": form, "out": str(out), **told, "notes": {what: count for what, count in notes.items() if count}})
    else:
        console().print(f"{job}: {', '.join(f'{count} {what}' for what, count in told.items())}; {plain(str(out))}")
        for what, count in notes.items():
            if count:
                console(stderr=True).print(f"{count} {plain(what)}")
    return 1 if left_out else 0


def _listed(what: str, keys: list[str]) -> dict[str, int]:
    more = ", …" if len(keys) > _NAMED else ""
    return {f"{what} ({', '.join(keys[:_NAMED])}{more})": len(keys)} if keys else {}


def _heard_ms(settings: Settings, job: str) -> int:
    """When the job was last heard of, which dates the files: the same rows give the same bytes."""
    with reading(settings.store) as store:
        state = store.state(job)
        if state is None:
            raise BadInput(f"the store {settings.store.url} has no job {job!r}; it has {', '.join(store.jobs(20)) or 'none'}")
        return state.heard_ms or 0


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that appears whole: it is filled under another name. Raises BadInput when there is one with anything in it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"--out {out}: is there already; name a new folder")
    pending = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(pending, ignore_errors=True)
        pending.mkdir(parents=True)
        yield pending
        if out.exists():
            out.rmdir()
        pending.rename(out)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(pending, ignore_errors=True)
