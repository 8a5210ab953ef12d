"""
The plan of a run: its jobs with every draw, made before anything starts, and kept with the run.

`plan(workload)` gives it or says why there can be none. Two runs whose plans have the same `hash` replayed the same.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from allocator.bench.capacity import Capacity, capacity, refuse_endless
from allocator.bench.draws import draw_jobs
from allocator.bench.workload import Workload


@dataclass(frozen=True)
class Plan:
    """
    What a run is going to do.

    Args:
        jobs: A row a job in the order of arrival, with the columns of `draw_jobs`. Not to be changed.
        capacity: What they ask of the workers.
    """

    workload: Workload
    jobs: pd.DataFrame
    capacity: Capacity

    @property
    def utilisation(self) -> float | None:
        """Offered work over what the workers can do while jobs arrive, queue and supervisor left out; see Capacity."""
        return self.capacity.utilisation

    @property
    def hash(self) -> str:
        """SHA-256 of every draw, in hexadecimal: of a trace too, which the workload only names."""
        digest = hashlib.sha256()
        for name, column in self.jobs.items():
            digest.update(f"{name}\n".encode())
            if isinstance(column.dtype, pd.CategoricalDtype):
                digest.update("\n".join(column.cat.categories).encode())
                column = column.cat.codes
            values = column.to_numpy()
            digest.update("\n".join(values).encode() if values.dtype == object else values.tobytes())
        return digest.hexdigest()

    def describe(self) -> str:
        """One sentence for the start of a run."""
        said = self.capacity.describe()
        if self.utilisation is not None and self.utilisation > 1:
            said += ": more arrives than they can do, and the backlog grows while it does"
        until_s = self.capacity.arrive_until_s
        when = f"in {until_s:,.1f} s" if until_s else "as fast as they are done"
        return f"{len(self.jobs):,} jobs {when}; {said}"

    def write(self, path: Path) -> None:
        """The jobs, as Parquet."""
        self.jobs.to_parquet(path, index=False)

    @classmethod
    def read(cls, path: Path, workload: Workload) -> "Plan":
        """What `write` wrote, of this workload."""
        jobs = pd.read_parquet(path)
        return cls(workload, jobs, capacity(workload, jobs))


def plan(workload: Workload) -> Plan:
    """
    Draw all jobs of the workload.

    Raises:
        InvalidWorkload: The trace cannot be read, or the run could not finish; names the field.
    """
    jobs = draw_jobs(workload)
    found = capacity(workload, jobs)
    refuse_endless(workload, jobs, found)
    return Plan(workload, jobs, found)
