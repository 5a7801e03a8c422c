"""Workers, tasks, commit, restore, assignment."""
