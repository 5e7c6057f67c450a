"""Escalation: explains the worst outcomes of a job once more, with a stronger model and within its budget."""
