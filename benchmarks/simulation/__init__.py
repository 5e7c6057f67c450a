"""The product in virtual time: its services, partitions, endpoints, store and brokers as queues. Pure, seeded, no clock."""
