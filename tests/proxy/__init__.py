"""A proxy between Kafka clients and a real broker that knows requests and answers, for tests of lost and late ones."""
