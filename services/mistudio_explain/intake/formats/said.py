"""What other projects say of features, and which features they mean."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mistudio_explain.events.identity import feature_key, plain_name
from mistudio_explain.intake.stage import FindJob


@dataclass(frozen=True, slots=True)
class Explained:
    """One explanation, by the name that its project gives the feature."""

    source: str | None
    """Layer, hook or SAE."""
    feature_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """Features, and what is said of them."""

    job: FindJob
    explanations: Mapping[str, Sequence[str]]
    """By feature key; features of which nothing is said are absent."""
    strangers: Sequence[str]
    """Names of features that something is said of and that are not there."""
    silent: int
    """Features of which nothing is said."""


def matched(job: FindJob, explained: Iterable[Explained]) -> Said:
    """Give each explanation to its feature: by source and id, in delphi's spelling of the source too.

    Where all features are of one source and all explanations of one, the ids alone tell: projects name the same layer differently.
    """
    by_name: dict[tuple[str | None, str], list[str]] = {}
    for one in explained:
        by_name.setdefault((one.source, one.feature_id), []).append(one.text)
    features = [(feature.source_id, feature.feature_id, feature.feature_key) for feature in job.features()]
    sources = {source for source, _, _ in features}
    is_one_source = len(sources) == 1 and len({source for source, _ in by_name}) == 1
    found: dict[str, list[str]] = {}
    met: set[tuple[str | None, str]] = set()
    only = next(iter(by_name), (None, ""))[0]
    for source, feature_id, key in features:
        names = [(source, feature_id), (plain_name(source or job.find_job_id), feature_id), *([(only, feature_id)] if is_one_source else [])]
        name = next((each for each in names if each in by_name), None)
        if name is not None:
            found[key] = by_name[name]
            met.add(name)
    strangers = [feature_key(feature_id, source) for source, feature_id in by_name if (source, feature_id) not in met]
    return Said(job, found, strangers, len(features) - len(found))
