"""The public builder API: each method adds nodes to the plan."""
