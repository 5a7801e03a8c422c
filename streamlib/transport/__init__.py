"""The port to a broker, and its implementations."""
