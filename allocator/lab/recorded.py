"""
`python -m allocator.lab.recorded ORDERS`: makes a run, as any other, and executes the notebook that shows it.

In a process of its own, which nothing that a person does in the lab disturbs. Tells how far it is in lines of JSON.
SIGTERM ends the run in order, and what was measured is kept.
"""

import sys
import time
from pathlib import Path

import msgspec

from allocator.bench.runs import Progress, run
from allocator.bench.workload import Workload
from allocator.domain.errors import AllocatorError
from allocator.lab.orders import RunOrders, Told
from allocator.lab.outliving import die_with
from allocator.report.executing import execute
from allocator.report.places import notebooks_folder

NOTEBOOK = "70-run"
EXECUTED = "run.ipynb"
LIMIT_S = 120.0
TOLD_S = 0.3


def tell(told: Told) -> None:
    """To whoever started this."""
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


def main(text: str) -> int:
    """Carry out the orders; gives the exit status."""
    orders = msgspec.json.decode(text, type=RunOrders)
    die_with(orders.parent)
    said_at, phase = 0.0, ""

    def say(progress: Progress) -> None:
        nonlocal said_at, phase
        if progress.phase != phase or time.monotonic() - said_at >= TOLD_S:
            said_at, phase = time.monotonic(), progress.phase
            tell(Told(phase=phase, sent=progress.sent, done=progress.done, total=progress.total))

    try:
        made = run(Workload.from_yaml(orders.workload), orders.backend, folder=Path(orders.folder), say=say)
    except (AllocatorError, OSError, ValueError) as error:
        tell(Told(phase="over", problem=f"nothing was recorded: {error}"))
        return 1
    told = Told(
        phase="drawing",
        run=str(made.folder),
        verdict=made.verdict,
        failed_gates=made.failed_gates,
        interrupted=made.about.interrupted,
    )
    tell(told)
    step = execute(
        notebooks_folder() / f"{NOTEBOOK}.ipynb",
        made.folder / EXECUTED,
        {"folder": str(made.folder)},
        LIMIT_S,
        f"allocator bench show {made.folder}",
    )
    there = (made.folder / EXECUTED).exists()
    problem = f"the notebook of the run: {step.error}" if step.error else ""
    tell(msgspec.structs.replace(told, phase="over", notebook=EXECUTED if there else "", problem=problem))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
