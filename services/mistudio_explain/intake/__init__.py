"""Intake: reads what miStudioFind found from its files.

`stage.read` is the way in. Everything is checked before the first event leaves, and nothing here knows of Kafka.
"""
