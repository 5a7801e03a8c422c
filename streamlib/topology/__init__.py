"""The logical plan: data, names, validation, description. No I/O."""
