"""The programs under measurement that are not streamlib's: each runs in an environment of its own."""
