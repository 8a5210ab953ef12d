"""Measuring: what the queue costs, beside what it could cost at best."""
