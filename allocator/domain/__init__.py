"""Plain values and pure functions: what a job is, and what may happen to it."""
