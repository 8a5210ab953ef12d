"""
What runs in a process of its own for each figure, so that nothing one leaves behind falls on the next.

`call` starts one; its function is looked up in PROGRAMS, gets the arguments as they are, and what it returns comes back
as JSON.
"""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from allocator.bench.supervisor.draining import bare_loop, drain, memory, scaling
from allocator.bench.supervisor.pickup import bare_pickup, idle, idle_client, pickup
from allocator.bench.supervisor.records import read_records

Figures = dict[str, list[float]]
"""Name -> values; a single figure is a list of one."""

PROGRAMS: dict[str, Callable[..., Figures]] = {
    function.__name__: function
    for function in (bare_loop, drain, memory, scaling, pickup, bare_pickup, idle, idle_client, read_records)
}

LIMIT_S = 1800.0


class BrokenProgram(RuntimeError):
    """A measuring program ended without a result: the harness is broken, not the supervisor slow."""


def call(name: str, arguments: dict[str, Any]) -> Figures:
    """
    Run a program in a fresh interpreter.

    Raises:
        BrokenProgram: It failed or took longer than half an hour; with the end of what it said.
    """
    command = [sys.executable, "-m", __name__, name, msgspec.json.encode(arguments).decode()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise BrokenProgram(f"{name} {arguments}: no result within {LIMIT_S:g} s") from None
    if done.returncode:
        raise BrokenProgram(f"{name} {arguments}: exit status {done.returncode}: …{done.stderr[-800:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Figures)


def main(name: str, arguments: str) -> None:
    """Run the function of this name."""
    print(msgspec.json.encode(PROGRAMS[name](**msgspec.json.decode(arguments))).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
