"""Serdes: columns of bytes to objects and back."""
