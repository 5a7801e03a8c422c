"""Kafka Streams for Python: topologies of map, join and window operators over Kafka, with local state."""
