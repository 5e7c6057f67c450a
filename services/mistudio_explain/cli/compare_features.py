"""`compare-features` and `families`: what tells similar features of a job apart, and which are the same one several times."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from mistudio_explain.cli.score_lines import lines_of
from mistudio_explain.cli.show import console, plain, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadInput
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.intake.document import Flawed
from mistudio_explain.intake.formats.choice import read_input
from mistudio_explain.intake.pairs import PairLine
from mistudio_explain.validation.families import Family, Sibling, families
from mistudio_explain.validation.offline import Scorer, background_of
from mistudio_explain.validation.siblings import Difference, Fit, Shared, Telling, compare
from mistudio_explain.validation.validator import Validator

_TEXT_CHARACTERS = 300
_SHOWN_TEXTS = 3
_NAMED = 5


def compare_two(
    first: str, second: str, *, source: Path, job: str | None, target_model: str | None, config: Path | None, profile: str | None, as_json: bool
) -> int:
    """Show what tells two features of `source` apart."""
    settings = prepare(config=config, profile=profile, quiet=True)
    siblings = siblings_of(source, job, target_model)
    one, other = _named(siblings, first, source), _named(siblings, second, source)
    if one is other:
        raise BadInput(f"{first} and {second} are the same feature; name two")
    scorer = Scorer.of(Validator.load(settings.quality), settings)
    found_by = one.feature.find_job_id
    difference = compare(one, other, background_of(found_by, (sibling.feature for sibling in siblings)), scorer)
    if as_json:
        print_json({"job": found_by, **asdict(difference)})
        return 0
    for part in shown(difference):
        console().print(part)
    return 0


def show_families(source: Path, *, threshold: float, job: str | None, target_model: str | None, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the families of a job's features."""
    settings = prepare(config=config, profile=profile, quiet=True)
    siblings = siblings_of(source, job, target_model)
    found = families(siblings, Validator.load(settings.quality), threshold)
    if as_json:
        print_json({"job": siblings[0].feature.find_job_id, "features": len(siblings), "threshold": threshold, "families": [as_data(each) for each in found]})
        return 0
    within = sum(len(family.members) for family in found)
    console().print(
        f"{len(siblings)} features: {len(found)} families of {within} features, likeness from {threshold:.2f}; {within - len(found)} would be spared"
    )
    for family in found:
        console().print(_family(family))
    return 0


def siblings_of(source: Path, job: str | None, target_model: str | None) -> list[Sibling]:
    """The features of one job with their explanations: from lines of pairs, or without any from a file of any format that is read.

    Raises BadInput for a file that cannot be read, and when it has several jobs and none is named.
    """
    try:
        pairs = None
        if not source.is_dir():
            with source.open("rb") as file:
                pairs = _pairs(file, source)
        if pairs is None:
            return [Sibling(feature) for feature in read_input(source, target_model=target_model, find_job_id=job).features()]
    except OSError as error:
        raise BadInput(f"{source}: cannot be read: {error.strerror or error}") from error
    except Flawed as flawed:
        raise BadInput("\n".join(map(str, flawed.problems))) from flawed
    jobs = dict.fromkeys(feature.find_job_id for feature, _ in pairs)
    if (job is None and len(jobs) > 1) or (job is not None and job not in jobs):
        names = ", ".join(list(jobs)[:_NAMED]) + (" ..." if len(jobs) > _NAMED else "")
        raise BadInput(f"{source}: has features of {len(jobs)} jobs, {names}; say which with --job")
    found: dict[str, tuple[FeatureFound, list[str]]] = {}
    for feature, said in pairs:
        if feature.find_job_id == (job or feature.find_job_id):
            found.setdefault(feature.feature_key, (feature, []))[1].extend(said)
    return [Sibling(feature, tuple(dict.fromkeys(said))) for feature, said in found.values()]


def _pairs(file: Any, source: Path) -> list[tuple[FeatureFound, list[str]]] | None:
    """The features of a file of pairs, each with what its line says of it; None when its first line is no pair."""
    pairs: list[tuple[FeatureFound, list[str]]] = []
    for number, line in enumerate(lines_of(file), 1):
        if not line.strip():
            continue
        try:
            decoded = PairLine.of(line, number, source)
        except Flawed:
            if not pairs:
                return None
            raise
        if not pairs and "feature" not in decoded.members:
            return None
        said = decoded.members.get("explanation")
        pairs.append((decoded.feature(), [said] if isinstance(said, str) and said.strip() else []))
    return pairs or None


def _named(siblings: Sequence[Sibling], key: str, source: Path) -> Sibling:
    found = next((sibling for sibling in siblings if sibling.key == key), None)
    if found is None:
        there = ", ".join(sibling.key for sibling in siblings[:_NAMED])
        raise BadInput(f"{source}: there is no feature {key!r}; there are {len(siblings)}, such as {there} (a feature of a layer is named layer/feature)")
    return found


def as_data(family: Family) -> dict[str, Any]:
    """A family for scripts."""
    return {
        "members": [{"feature_key": key, "explanation": said} for key, said in zip(family.members, family.explanations, strict=True)],
        "least_alike": asdict(family.least),
        "common_words": list(family.common_words),
    }


def _family(family: Family) -> RenderableType:
    least = family.least
    said = "" if least.explanations is None else f", explanations {least.explanations:.2f}"
    common = f"; in common: {', '.join(family.common_words)}" if family.common_words else ""
    title = f"{len(family.members)} features; least alike {least.first} and {least.second}: texts {least.texts:.2f}{said}{common}"
    rows = zip(family.members, (told or "-" for told in family.explanations), strict=True)
    return table(plain(title), ("feature", "explanation"), [(key, _short(told)) for key, told in rows], wrap={"explanation": None})


def shown(difference: Difference) -> Iterator[RenderableType]:
    """A comparison for people."""
    first, second, like = difference.first, difference.second, difference.likeness
    said = "" if like.explanations is None else f", of the explanations {like.explanations:.2f}"
    yield Text(f"{first} and {second}: likeness of the texts {like.texts:.2f}{said}", style="bold")
    of = f"{difference.texts[0]} and {difference.texts[1]} different texts"
    yield Text(f"{len(difference.shared_texts)} texts stand nearly alike in both, of {of}")
    for text in difference.shared_texts[:_SHOWN_TEXTS]:
        yield Text(f"  {_short(text)}")
    if difference.fits:
        rows = [(fit.of, *_fit(fit), _short(fit.explanation)) for fit in difference.fits]
        yield table("Accuracy of each explanation on both", ("said of", first, second, "explanation"), rows, wrap={"explanation": None})
    yield _words("Words that tell them apart: texts that have them", difference.words, difference)
    if difference.active_words is not None:
        yield _words("Words they fire on that tell them apart", difference.active_words, difference)
    for name, shared in (("promoted", difference.promoted), ("suppressed", difference.suppressed)):
        if shared is not None:
            yield _tokens(name, shared, first, second)


def _fit(fit: Fit) -> tuple[str, str]:
    if fit.first is None or fit.second is None:
        return "-", f"not checked: {fit.why_not}"
    return f"{fit.first:.2f}", f"{fit.second:.2f}"


def _words(title: str, words: Iterable[Telling], difference: Difference) -> RenderableType:
    counts = difference.texts
    rows = [(telling.word, f"{telling.first} of {counts[0]}", f"{telling.second} of {counts[1]}", telling.of, f"{telling.z:+.1f}") for telling in words]
    if not rows:
        return Text(f"{title}: none")
    return table(title, ("word", difference.first, difference.second, "speaks for", "z"), rows)


def _tokens(name: str, shared: Shared, first: str, second: str) -> RenderableType:
    rows = [(label, " ".join(map(repr, tokens)) or "-") for label, tokens in (("both", shared.both), (first, shared.first), (second, shared.second))]
    return table(f"Tokens {name} most", ("by", "tokens"), rows, wrap={"tokens": None})


def _short(text: str) -> str:
    told = plain(text[: 4 * _TEXT_CHARACTERS])
    return told if len(told) <= _TEXT_CHARACTERS else told[:_TEXT_CHARACTERS] + " ..."
