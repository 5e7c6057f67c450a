"""Benchmarks of the LLM fleet."""
