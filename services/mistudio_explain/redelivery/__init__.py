"""Redelivery: what waits in the retry topics goes back to its service when its time has come."""
