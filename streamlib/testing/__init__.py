"""What users test with: shipped, not internal."""
