"""Applications to read, run and copy from. Each is one module with a ``topology``; each has tests in tests/apps."""
