"""The supervisor benchmark: what workers add to the bare queue, each figure beside its limit in the same run."""
