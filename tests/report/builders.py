"""Reports to look at: their runs hold rows whose figures are known; all else is as `allocator report` leaves it."""

import time
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from allocator.bench.checker import Fault
from allocator.bench.runs.run import WORKLOAD, About, Run
from allocator.bench.workloads import named
from allocator.report.artefacts import Artefacts
from allocator.report.made import PASSED, Made, Step
from allocator.report.page import Page
from allocator.report.results import write_results
from tests.bench.statistics.runs import Rows, one_server

JOBS = 2000


def a_run(
    folder: Path, id: str, backend: str = "memory", *, seed: int = 1, rows: Rows | None = None, faults: int = 0
) -> Run:
    """A run of a queue that is half busy and does what it promises; `rows` for another one."""
    own = folder / id
    own.mkdir(parents=True)
    workload = named("steady").changed(seed=seed, warmup_s=0.0)
    (own / WORKLOAD).write_text(workload.to_yaml(), "utf-8")
    made = rows or one_server(np.random.default_rng(seed), JOBS, 0.5)
    made.jobs["enqueue"] = np.where(made.jobs["enqueued_at"].notna(), "accepted", "refused")
    made.jobs["enqueue_error"] = None
    for column, end, begin in (
        ("lateness_s", "enqueue_started_at", "intended_at"),
        ("enqueue_s", "enqueued_at", "enqueue_started_at"),
        ("sojourn_s", "settled_at", "intended_at"),
    ):
        made.jobs[column] = made.jobs[end] - made.jobs[begin]
    waits = (made.attempts["started_at"] - made.attempts["due_at"]).set_axis(made.attempts["job"])
    made.jobs["wait_s"] = waits[~waits.index.duplicated()].reindex(made.jobs["job"]).to_numpy()
    made.attempts["service_s"] = made.attempts["finished_at"] - made.attempts["started_at"]
    made.attempts["pickup_error_s"] = np.nan
    about = About(
        id=id, name="steady", backend=backend, store="none", durability="appendfsync everysec", server="",
        started_at=time.time(), took_s=10.0, slots=1, lease_s=5.0, workload_hash=workload.hash, plan_hash="p",
        interrupted=False, drained=True, orderly=True, problem=None, generator_cpu_share=0.1, torn=0, boot_id="b",
        offset_start_s=None, offset_end_s=None, clock_error_s=0.0, stops=[],
        faults=[Fault("kill_server", 1.0, 1.1) for _ in range(faults)], fingerprint={"load before": "0.10"},
    )  # fmt: skip
    return Run.keep(own, about, {"jobs": made.jobs, "attempts": made.attempts, "backlog": made.backlog})


def lossy() -> Rows:
    """Rows of workers that told the queue of a job's end before they had done it, and then died."""
    rows = one_server(np.random.default_rng(1), JOBS, 0.5)
    rows.attempts.loc[7, "finished_at"] = np.nan
    return rows


def forgetful() -> Rows:
    """Rows of a queue that accepted a job and forgot it: it was never started, and is nowhere at the end."""
    rows = one_server(np.random.default_rng(1), JOBS, 0.5)
    rows.attempts = rows.attempts[rows.attempts["job"] != "j7"].reset_index(drop=True)
    rows.jobs.loc[7, "state"] = "unknown"
    rows.jobs.loc[7, "settled_at"] = np.nan
    return rows


def late() -> Rows:
    """Rows of a load generator that ran a second behind its schedule: a gate fails."""
    rows = one_server(np.random.default_rng(1), JOBS, 0.5)
    rows.jobs["intended_at"] -= 1.0
    return rows


def a_report(
    folder: Path, *runs: Run, id: str = "20260101T000000-smoke-abcd", tests: str = "", at: float = 1e9
) -> Path:
    """
    A report that measured latency in these runs, by the name of their backends.

    Args:
        folder: Of the report; its runs are there already.
        tests: The inside of its tests.xml.
    """
    artefacts = Artefacts(folder, "10-latency")
    for run in runs:
        p95 = run.summary.tables["sojourn"].percentiles_s["p95"]
        assert p95 is not None
        artefacts.measure(f"{run.about.backend}/sojourn_p95_s", p95, "s", n=1, runs=[run])
        artefacts.measure(f"{run.about.backend}/wait_p99_s", 0.05, "s", n=1, runs=[run])
    if tests:
        (folder / "tests.xml").write_text(f"<testsuites><testsuite>{tests}</testsuite></testsuites>", "utf-8")
    steps = [Step(name="10-latency", status=PASSED, took_s=4.0)]
    Made(
        id=id, profile="smoke", started_at=at, command="allocator report", took_s=90.0, backends=["memory"],
        tests=Step(name="tests", status=PASSED, took_s=30.0), notebooks=steps, fingerprint={"Python": "3"},
    ).write(folder)  # fmt: skip
    return folder


def written(folder: Path) -> Path:
    """The same, with its results."""
    write_results(folder, Page(folder).results)
    return folder


def a_case(test: str, outcome: str = "") -> str:
    """A test case as pytest writes it: `tests/x.py::test_y[z]`, with `<failure message="…"/>` or the like inside."""
    file, _, name = test.partition("::")
    return f"<testcase file={quoteattr(file)} name={quoteattr(name)} time='0.1'>{outcome}</testcase>"
