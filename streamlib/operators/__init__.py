"""Physical operators over batches of columns."""
