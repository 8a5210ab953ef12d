"""
Runs: one execution of a workload each, kept in a folder of its own.

`run(workload, backend)` makes one. What it gives is what its folder holds: raw rows, verdicts and figures, the last two
computed from the rows and nothing else.
"""

from allocator.bench.runs.execution import Progress
from allocator.bench.runs.run import Run
from allocator.bench.runs.running import run

__all__ = ["Progress", "Run", "run"]
