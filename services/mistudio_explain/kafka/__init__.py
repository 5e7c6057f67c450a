"""Everything that talks to Kafka: clients, topics, lanes, dead letters, the embedded broker."""
