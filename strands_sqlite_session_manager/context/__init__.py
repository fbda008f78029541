"""What an agent holds, kept exactly, at the cost of what changed."""
