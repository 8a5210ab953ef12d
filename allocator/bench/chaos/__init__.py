"""
The chaos run: real jobs on real workers and a real server while all of these are killed, stopped and wiped.

Submits jobs through store and queue, makes faults at random instants, waits until everything has ended, and lets the
checker of `allocator.bench.checker` judge what the job bodies wrote down against what the database says.
"""
