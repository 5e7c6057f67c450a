"""The JSON files of a job, written as a stream: one record a line."""

import shutil
import tempfile
from collections.abc import Iterable
from typing import Any, BinaryIO

import orjson

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.job import JobReport
from mistudio_explain.reporting.departure import departure
from mistudio_explain.reporting.records import explanation_record, outcome_record, score_record, unexplained_record
from mistudio_explain.reporting.survey import Survey
from mistudio_explain.reporting.wording import duration, timestamp

_SPOOL_BYTES = 1 << 20


class _Array:
    """Writes a JSON array, one element a line."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._empty = True
        out.write(b"[")

    def append(self, record: dict[str, Any]) -> None:
        self._out.write(b"\n    " if self._empty else b",\n    ")
        self._out.write(orjson.dumps(record))
        self._empty = False

    def close(self) -> None:
        self._out.write(b"]" if self._empty else b"\n  ]")


def write_feature_explanations(out: BinaryIO, report: JobReport, figures: Survey, outcomes: Iterable[FeatureOutcome]) -> None:
    """Write feature_explanations.json (schemas/files/feature_explanations.schema.json).

    Figures about features are those of the outcomes in the file itself; the job's own (status, times, tokens,
    cost) are the report's.
    """
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as skipped_lines, tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as failed_lines:
        out.write(b'{\n  "job_metadata": ' + _indented(_job_metadata(report, figures)) + b',\n  "explanations": ')
        explanations, skipped, failed = _Array(out), _Array(skipped_lines), _Array(failed_lines)
        for outcome in outcomes:
            match outcome.outcome:
                case OutcomeKind.EXPLAINED:
                    explanations.append(explanation_record(outcome))
                case OutcomeKind.SKIPPED:
                    skipped.append(unexplained_record(outcome))
                case OutcomeKind.FAILED:
                    failed.append(unexplained_record(outcome))
        for array in (explanations, skipped, failed):
            array.close()
        out.write(b',\n  "summary_insights": ' + _indented(figures.insights.model_dump()))
        for name, lines in ((b"skipped", skipped_lines), (b"failed", failed_lines)):
            out.write(b',\n  "' + name + b'": ')
            lines.seek(0)
            shutil.copyfileobj(lines, out)
        out.write(b',\n  "missing": ' + orjson.dumps(report.missing) + b"\n}\n")


def write_explanation_results(out: BinaryIO, report: JobReport, figures: Survey, outcomes: Iterable[FeatureOutcome]) -> None:
    """Write explanation_results.json, which miStudioScore reads (schemas/files/explanation_results.schema.json)."""
    head = {
        "job_id": report.explain_job_id,
        "source_find_job": report.find_job_id,
        "model_name": report.target_model,
        "status": report.status,
        "timestamp": timestamp(report.at_ms),
        "total_explanations": figures.explained,
    }
    out.write(b"{")
    out.writelines(b"\n  " + orjson.dumps(name) + b": " + orjson.dumps(value) + b"," for name, value in head.items())
    out.write(b'\n  "explanations": ')
    explanations = _Array(out)
    for outcome in outcomes:
        if outcome.outcome is OutcomeKind.EXPLAINED:
            explanations.append(score_record(outcome))
    explanations.close()
    out.write(b"\n}\n")


def write_lines(out: BinaryIO, outcomes: Iterable[FeatureOutcome]) -> None:
    """Write explanations.jsonl: every feature on a line of its own, as feature_explanations.json has it, after its job and what became of it."""
    out.writelines(orjson.dumps(outcome_record(outcome), option=orjson.OPT_APPEND_NEWLINE) for outcome in outcomes)


def _job_metadata(report: JobReport, figures: Survey) -> dict[str, Any]:
    return {
        "explain_job_id": report.explain_job_id,
        "source_find_job": report.find_job_id,
        "processing_time": duration(report.wall_s),
        "total_features_processed": figures.explained + figures.failed,
        "explanation_quality_average": figures.quality.mean if figures.quality else None,
        "tenant": report.tenant,
        "target_model": report.target_model,
        "status": report.status,
        "revision": report.revision,
        "timestamp": timestamp(report.at_ms),
        "expected": report.expected,
        "expected_source": report.expected_source,
        "total_features": figures.total,
        "explained": figures.explained,
        "skipped": figures.skipped,
        "failed": figures.failed,
        "to_review": figures.to_review,
        "verdicts": {verdict: figures.verdicts.get(verdict, 0) for verdict in ("confirmed", "partial", "contradicted", "unverifiable")},
        "accuracy_average": figures.accuracy.mean if figures.accuracy else None,
        "coherence": None
        if figures.coherence is None
        else {"n": figures.coherence.n, "least": figures.coherence.least, "median": figures.coherence.median, "greatest": figures.coherence.greatest},
        "tokens_in": report.tokens_in,
        "tokens_out": report.tokens_out,
        "cost_usd": report.cost_usd,
        "cost_analysis": report.cost_analysis.model_dump() if report.cost_analysis else None,
        "second_pass": report.second_pass.model_dump() if report.second_pass else None,
        "left_the_machine": {
            "statement": departure(report, figures),
            "clouds": [sent.model_dump() for sent in report.sent_to_cloud],
            "answers": {reach: figures.origin.reaches.get(reach, 0) for reach in ("machine", "network", "cloud", "unknown")},
        },
        "wall_seconds": report.wall_s,
        "estimated_seconds": report.estimated_seconds,
        "estimated_cost_usd": report.estimated_cost_usd,
        "demonstration": figures.origin.demonstration,
        "reviewed": report.reviewed,
        "agreed": report.agreed,
        "judged": report.judged,
        "judge_calls": report.judge_calls,
        "judge_tokens_in": report.judge_tokens_in,
        "judge_tokens_out": report.judge_tokens_out,
        "judge_cost_usd": report.judge_cost_usd,
    }


def _indented(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n  ")
