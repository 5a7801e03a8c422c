"""The streamlib command: one file per command."""
