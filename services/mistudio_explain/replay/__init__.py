"""Replay: a find job's features explained again under a new job, their bytes copied and not touched."""
