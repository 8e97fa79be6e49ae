"""Working on several hosts: starting together, agreeing, stopping and ending together."""
