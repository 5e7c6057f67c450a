"""Validation: says how far an explanation can be believed, and is the only maker of `explained`."""
