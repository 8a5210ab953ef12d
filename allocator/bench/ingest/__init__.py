"""What taking files in costs: the API beside the bare work on the same disk."""
