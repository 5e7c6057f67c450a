"""The aggregator: compacts explanation events into job reports."""
