"""How features, jobs and lanes are named."""

import hashlib
import re

DEFAULT_TENANT = "default"
EXPRESS_LANE = "express"
SHARED_LANE = "shared"
_RESERVED_LANES = frozenset({EXPRESS_LANE, SHARED_LANE})
_LANE_LENGTH = 80


def feature_key(feature_id: str, source_id: str | None = None) -> str:
    """Name a feature within its job; feature 5 of two sources are two features."""
    return feature_id if source_id is None else f"{source_id}/{feature_id}"


def default_explain_job_id(find_job_id: str, tenant: str = DEFAULT_TENANT) -> str:
    """Name the explain job of a find job, so that publishing the same input twice is the same job.

    `find_X` gives `explain_X`, any other id `explain_` and the whole id; another tenant's `explain.<tenant>_X`.
    """
    prefix = "explain" if tenant == DEFAULT_TENANT else f"explain.{tenant}"
    return f"{prefix}_{find_job_id.removeprefix('find_')}"


def may_name(tenant: str, explain_job_id: str) -> bool:
    """Whether a job id is one that a tenant may give: no other tenant can give it, so that none meets, or finds out, another's.

    A tenant's ids begin with `explain.<tenant>_`, the default tenant's with anything but `explain.`.
    """
    return not explain_job_id.startswith("explain.") if tenant == DEFAULT_TENANT else explain_job_id.startswith(f"explain.{tenant}_")


def lane_name(target_model: str) -> str:
    """Name the lane (the topic's last part) of a target model.

    Every character outside `[a-z0-9-]` becomes `-` (Kafka takes `.` and `_` for the same in metric names), at most
    80 characters; whenever that changed the text, or the text looks like a name that was made so, 8 hex digits of
    its sha256 keep two models apart. The names of the express and the shared lane are never a model's.
    """
    plain = re.sub(r"[^a-z0-9-]", "-", target_model)[:_LANE_LENGTH]
    if plain == target_model and plain not in _RESERVED_LANES and not re.search(r"-[0-9a-f]{8}$", plain):
        return plain
    return f"{plain}-{hashlib.sha256(target_model.encode()).hexdigest()[:8]}"


def plain_name(name: str) -> str:
    """A name as part of a file's name: every character outside `[A-Za-z0-9._-]` becomes `-`."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def outcome_key(explain_job_id: str, feature_key: str) -> str:
    """Key of everything that is about one feature of one job."""
    return f"{explain_job_id}|{feature_key}"


def background_key(tenant: str, find_job_id: str) -> str:
    """Key of a find job's background."""
    return f"{tenant}|{find_job_id}"


def means_model(name: str, listed: str) -> bool:
    """Whether a model's name as people write it means the one that a server lists; `llama3` means `llama3:latest`, as it does to Ollama."""
    return listed in (name, f"{name}:latest")
