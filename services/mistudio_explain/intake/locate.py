"""Finds a find job's file in the folders that miStudioFind writes to."""

from pathlib import Path

from mistudio_explain.errors import BadInput, either, option


def locate(find_job_id: str, data_root: Path) -> Path:
    """Name the file of a find job under Find's data folder: `results/find/<id>_results.json` or `results/find/<id>/feature_analysis.json`.

    Raises BadInput with every place that was tried when there is neither.
    """
    if "/" in find_job_id or find_job_id.startswith("."):
        itself = either("name the file itself", "upload the file itself")
        raise BadInput(f"{option('--find-job', 'find_job_id')} {find_job_id!r}: no find job has such an id; to read a certain file, {itself}")
    folder = data_root / "results" / "find"
    tried = (folder / f"{find_job_id}_results.json", folder / find_job_id / "feature_analysis.json")
    for path in tried:
        if path.is_file():
            return path
    places = ", ".join(map(str, tried))
    where = either(f"under --data-root {data_root}; tried {places}", "where the gateway looks for them (gateway.data_root)")
    raise BadInput(f"{option('--find-job', 'find_job_id')} {find_job_id!r}: there is no such find job {where}")
