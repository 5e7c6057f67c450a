"""The aggregator: explanations, admissions, job events and reviews in; rows, job reports and files out."""

from mistudio_explain.aggregation.emitter import Emitter
from mistudio_explain.aggregation.reader import MirrorReader
from mistudio_explain.aggregation.removal import Removal
from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.store.seat import Seat


def register(app: StreamApp, seat: Seat, reports: JobReports) -> None:
    """Read the four topics from where the store stands, and say what it knows, while this process has the seat."""
    emitter = Emitter(app, seat, MirrorReader(app, seat), reports, Removal(app, seat, reports))
    app.task("what the store says", emitter.run)
    app.task("the store's seat", emitter.keep_seat)
    app.task("the store's index of words", emitter.keep_index)
