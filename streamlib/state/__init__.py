"""Local state: engines, stores, write cache."""
