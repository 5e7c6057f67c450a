"""Reporting: a job's outcomes as files for people and for the services downstream."""
