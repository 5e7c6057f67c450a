"""Context: from a found feature to a request for an explanation."""
