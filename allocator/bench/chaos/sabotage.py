"""
`python -m allocator.bench.chaos.sabotage BUG …`: the worker command with one bug built in.

The controls of the chaos run: whoever trusts its verdicts should see it fail where it must. Everything but the bug is
the real thing.
"""

import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from allocator.bench.checker.controls import CONTROLS, Control
from allocator.domain.lease import Lease
from allocator.persistence import Ending, Store
from allocator.supervisor import leases, pools, reconciler, supervisor
from allocator.supervisor.held import Held


@dataclass(frozen=True)
class Bug:
    """
    A bug that the checker must catch.

    Args:
        build: Builds it into this process.
        control: What it breaks, and the promises that must show it.
    """

    build: Callable[[], None]
    control: Control


def _ack_before_run() -> None:
    """Jobs are told done before they run."""
    original = supervisor.Supervisor._accept

    def accept(self: Any, leases: list[Lease]) -> list[Held]:
        held = original(self, leases)
        acked = [one.lease for one in held]
        self._store.settle([Ending(lease, "done", lease.leased_at) for lease in acked])
        self.queue.settle(acks=acked)
        return held

    supervisor.Supervisor._accept = accept  # type: ignore[method-assign]


def _no_token() -> None:
    """An attempt may end its job although another has the lease by now."""
    original = Store.settle

    def settle(self: Store, endings: Any) -> list[Ending]:
        listed = list(endings)
        for ending in listed:
            job = self.job(ending.lease.job.id)
            if job is not None and job.token is not None:
                ending.lease.token = job.token
        return original(self, listed)

    Store.settle = settle  # type: ignore[method-assign]


def _swallowed_retry() -> None:
    """A failed attempt is told done."""
    original = pools.attempt

    def attempt(processor: Any, context: Any, held: Held) -> Any:
        ending = original(processor, context, held)
        ending.verb = "done"
        return ending

    pools.attempt = attempt


def _lease_keeper_off() -> None:
    """Leases of running jobs are not extended."""
    leases.LeaseKeeper._extend = lambda self: None  # type: ignore[method-assign]


def _reconciler_off() -> None:
    """What the queue has lost is not put back."""
    reconciler.reconcile = lambda store, queue, rest=None: 0


def _expiry_ignored() -> None:
    """What a dead worker held never comes back: its lease has no end that anybody would see."""
    day_s = "86400"
    at = sys.argv.index("--lease") + 1 if "--lease" in sys.argv else len(sys.argv) - 1
    sys.argv[at] = day_s


BUGS = {
    "ack-before-run": Bug(_ack_before_run, CONTROLS["ack before run"]),
    "no-token": Bug(_no_token, CONTROLS["no token on ack"]),
    "swallowed-retry": Bug(_swallowed_retry, CONTROLS["swallowed retry"]),
    "expiry-ignored": Bug(_expiry_ignored, CONTROLS["expiry ignored"]),
    "reconciler-off": Bug(_reconciler_off, CONTROLS["reconciler off"]),
    "lease-keeper-off": Bug(_lease_keeper_off, CONTROLS["lease keeper off"]),
}


def main() -> None:
    """Build the bug in, then run the program as it is."""
    BUGS[sys.argv.pop(1)].build()
    if sys.argv[1] == "inprocess":
        del sys.argv[1]
        program = "allocator.bench.chaos.inprocess"
    else:
        program = "allocator.cli"
    runpy.run_module(program, run_name="__main__")


if __name__ == "__main__":
    main()
