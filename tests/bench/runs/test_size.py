"""What it takes to analyse a large run: its figures, gates and verdicts, from its rows on disk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from allocator.bench.runs import Run, run
from allocator.bench.runs.run import FRAMES, STORED
from tests.bench.runs.small import small

JOBS, COPIES = 2000, 500

ANALYSE = """
import resource, sys, time
from pathlib import Path
from allocator.bench.runs.run import Run
began = time.perf_counter()
made = Run(Path(sys.argv[1]))
made.computed()
took_s = time.perf_counter() - began
largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(made.summary.jobs, *made.judgement.told(), f"{took_s:.1f} s", largest)
"""


def multiply(made: Run) -> None:
    """Write the rows of a run so many times, one copy after the other, with ids and tokens of their own."""
    for name in (*FRAMES, STORED):
        frame = pd.read_parquet(made.folder / f"{name}.parquet")
        whole = pd.concat([frame] * COPIES, ignore_index=True)
        copy = np.repeat(np.arange(COPIES), len(frame))
        for column in whole.columns:
            if column == "at" or column.endswith("_at"):
                whole[column] += copy * made.about.took_s
            elif column in ("job", "token"):
                whole[column] += pd.Series(copy).map("-{}".format).astype("str")
        whole.to_parquet(made.folder / f"{name}.parquet", index=False)


@pytest.mark.full
def test_a_million_jobs_are_analysed_in_a_gigabyte(tmp_path: Path) -> None:
    """With what a store has of them, in a process of its own, whose largest size the system knows; prints the time."""
    workload = small(
        arrival={"model": "closed", "clients": 8},
        duration_s=None,
        jobs=JOBS,
        service={"model": "constant", "seconds": 0},
    )
    made = run(workload, folder=tmp_path, store="sqlite")
    multiply(made)

    analysed = subprocess.run([sys.executable, "-c", ANALYSE, made.folder], capture_output=True, text=True, check=True)

    print(analysed.stdout)
    jobs, *told, _took, _unit, largest = analysed.stdout.split()
    assert (int(jobs), told) == (JOBS * COPIES, [])
    assert int(largest) < 1e9
