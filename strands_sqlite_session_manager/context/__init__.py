"""What an agent holds, kept exactly; an event writes only what changed."""
