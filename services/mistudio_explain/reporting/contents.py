"""A report's sections in their order, whatever its format."""

from dataclasses import dataclass

from mistudio_explain.events.job import JobReport
from mistudio_explain.reporting.survey import Survey
from mistudio_explain.reporting.targets import Standing, tally, targets
from mistudio_explain.reporting.wording import counted


@dataclass(frozen=True, slots=True)
class Section:
    """A section; `note` says in a few words what is in it."""

    anchor: str
    title: str
    note: str
    parts: tuple["Section", ...] = ()


def contents(report: JobReport, figures: Survey) -> tuple[Section, ...]:
    """The table of contents."""
    standing = tally(targets(report, figures))
    concerning, to_review = (figures.safety.get(name, 0) for name in ("concerning", "requires_review"))
    return (
        Section("summary", "Executive Summary", f"{report.status}, {counted(figures.total, 'feature')}"),
        Section("features", "Feature Explanations", f"{figures.explained:,} explained", _categories(figures)),
        Section("safety", "Safety Assessment", f"{concerning:,} concerning, {to_review:,} to review"),
        Section("insights", "Business Insights", f"{len(figures.categories)} {'category' if len(figures.categories) == 1 else 'categories'}"),
        Section(
            "targets",
            "Targets of the Specification",
            f"{standing[Standing.MET]} met, {standing[Standing.MISSED]} missed, {standing[Standing.NOT_MEASURABLE]} not measurable here",
        ),
        Section("technical", "Technical Details", "models, time, tokens, cost"),
        Section(
            "unexplained",
            "Skipped, Failed and Sent Again",
            f"{figures.skipped:,} skipped, {figures.failed:,} failed, {figures.detours.second.ended:,} sent again",
        ),
        Section("methods", "Methods and Versions", "what the numbers mean"),
        Section("compliance", "Compliance Appendix", "models, prompts, what left the machine"),
    )


def _categories(figures: Survey) -> tuple[Section, ...]:
    return tuple(
        Section(f"category-{figure.category}", figure.category.capitalize(), f"{figure.explained:,} explained, {figure.confirmed:,} confirmed")
        for figure in figures.categories
        if figure.explained
    )
