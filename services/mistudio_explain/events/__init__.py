"""The wire contract in Python: events, their encoding, identity, and which outcome counts.

Nothing in this package knows of Kafka, clocks or files other than the schemas.
"""
