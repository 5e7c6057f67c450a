"""Formats of other projects: one module each, from bytes to features.

`choice.read_input` is the way in. The modules open no file: they get its bytes or lines. docs/formats.md says what is read of each
format, and where its shape is written down.
"""
