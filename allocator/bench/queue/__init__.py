"""The queue benchmark: every operation beside the bare limit of its backend, measured in the same run."""
