"""The embedded broker: one durable SQLite database."""
