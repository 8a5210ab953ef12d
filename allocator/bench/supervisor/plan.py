"""What is measured: groups of programs that run in turns, round by round."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil

from allocator.bench.supervisor.draining import turns_for
from allocator.bench.supervisor.programs import Figures, call

PARTS = {
    "drain": "no-op jobs a second, without and with a store",
    "pickup": "how soon an idle supervisor starts a job",
    "steady": "the same at 500 jobs a second",
    "idle": "CPU of a supervisor that has nothing to do",
    "memory": "resident memory over many jobs",
    "processes": "two processes against two threads on CPU-bound jobs",
    "records": "reading from a store with many jobs",
}

STEADY_PER_S = 500.0
LOOK_S = 0.2


@dataclass(frozen=True)
class Profile:
    """
    How much is measured.

    Args:
        jobs: In each drain.
        pickups: In each round; p99 takes 1,000.
        wave: Jobs between two looks at the memory.
        busy_jobs, busy_s: CPU-bound jobs, and how long each takes alone.
        records, reads: Jobs in the store, and how often each thing is read.
        rounds: Of what is short; `latency_rounds` of what takes as long as its jobs are apart.
    """

    jobs: int
    pickups: int
    steady_s: float
    idle_s: float
    memory_jobs: int
    wave: int
    busy_jobs: int
    busy_s: float
    records: int
    reads: int
    rounds: int
    latency_rounds: int


FULL = Profile(50_000, 1000, 10.0, 5.0, 1_000_000, 10_000, 100, 0.02, 1_000_000, 1000, 5, 3)
QUICK = Profile(10_000, 100, 3.0, 2.0, 50_000, 10_000, 60, 0.02, 50_000, 200, 2, 1)


@dataclass(frozen=True)
class Arm:
    """A program with its arguments."""

    program: str
    arguments: dict[str, Any]


@dataclass
class Group:
    """
    Programs whose figures are compared, and so measured in turns.

    Args:
        part: One of PARTS.
        backend: Of the queue; of the store where there is no queue.
        figures: Arm -> what each round gave.
        loads: Arm -> (load average of the last minute, share of all cores in use) just before each of its rounds.
    """

    part: str
    backend: str
    arms: dict[str, Arm]
    rounds: int
    figures: dict[str, list[Figures]] = field(default_factory=dict)
    loads: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def run(self, round_number: int) -> Iterator[str]:
        """One round, arm by arm; the order alternates, so that drift of the machine falls on all. Gives their names."""
        names = list(self.arms)
        for name in names if round_number % 2 == 0 else reversed(names):
            yield name
            self.loads.setdefault(name, []).append(_load())
            arm = self.arms[name]
            arguments = dict(arm.arguments)
            if arm.program in ("pickup", "bare_pickup"):
                # Each round another schedule, the same one for both sides.
                arguments["seed"] = round_number
            self.figures.setdefault(name, []).append(call(arm.program, arguments))


def _load() -> tuple[float, float]:
    """What others do, for nothing of ours runs at this moment."""
    busy = psutil.cpu_percent(LOOK_S) / 100
    try:
        return os.getloadavg()[0], busy
    except OSError:
        return 0.0, busy


def groups_for(urls: dict[str, str], parts: list[str], profile: Profile, not_measured: list[str]) -> list[Group]:
    """What these backends allow to measure; what they do not is noted in `not_measured`."""
    makers = {
        "drain": _drains,
        "pickup": _pickups,
        "steady": _steady,
        "idle": _idle,
        "memory": _memory,
        "processes": _processes,
        "records": _records,
    }
    groups = []
    for part in PARTS:
        if part in parts:
            groups += makers[part](urls, profile, not_measured)
        else:
            not_measured.append(f"{PARTS[part]}: left out, see --part")
    return groups


def _drains(urls: dict[str, str], profile: Profile, not_measured: list[str]) -> list[Group]:
    groups = []
    postgres = urls.get("PostgreSQL")
    for backend, url in urls.items():
        count = {"url": url, "count": profile.jobs}
        arms = {"bare": Arm("bare_loop", count), "alone": Arm("drain", count)}
        if backend != "PostgreSQL":
            arms["SQLite"] = Arm("drain", count | {"store_url": "sqlite"})
        if backend == "Redis" and postgres is None:
            not_measured.append("Redis with a store on PostgreSQL: there is no PostgreSQL in this run")
        elif backend != "in process":
            arms["PostgreSQL"] = Arm("drain", count | {"store_url": postgres})
        groups.append(Group("drain", backend, arms, profile.rounds))
    return groups


def _pickups(urls: dict[str, str], profile: Profile, _: list[str]) -> list[Group]:
    return [
        Group("pickup", backend, _pickup_arms(url, profile.pickups, 0.0), profile.latency_rounds)
        for backend, url in urls.items()
    ]


def _steady(urls: dict[str, str], profile: Profile, not_measured: list[str]) -> list[Group]:
    if "Redis" not in urls:
        not_measured.append(f"{PARTS['steady']}: there is no Redis in this run")
        return []
    count = int(STEADY_PER_S * profile.steady_s)
    return [Group("steady", "Redis", _pickup_arms(urls["Redis"], count, STEADY_PER_S), profile.latency_rounds)]


def _pickup_arms(url: str, count: int, per_s: float) -> dict[str, Arm]:
    arguments = {"url": url, "count": count, "per_s": per_s}
    return {"bare": Arm("bare_pickup", arguments), "supervisor": Arm("pickup", arguments)}


def _idle(urls: dict[str, str], profile: Profile, _: list[str]) -> list[Group]:
    groups = []
    for backend, url in urls.items():
        arguments = {"url": url, "seconds": profile.idle_s}
        arms = {"bare": Arm("idle_client", arguments), "supervisor": Arm("idle", arguments)}
        groups.append(Group("idle", backend, arms, profile.latency_rounds))
    return groups


def _memory(urls: dict[str, str], profile: Profile, _: list[str]) -> list[Group]:
    groups = []
    for backend, url in urls.items():
        if backend == "PostgreSQL":
            continue
        arguments = {"url": url, "count": profile.memory_jobs, "wave": profile.wave}
        arms = {
            "bare": Arm("memory", arguments | {"bare": True}),
            "supervisor": Arm("memory", arguments | {"bare": False}),
        }
        groups.append(Group("memory", backend, arms, 1))
    return groups


def _processes(urls: dict[str, str], profile: Profile, not_measured: list[str]) -> list[Group]:
    if "in process" not in urls:
        not_measured.append(f"{PARTS['processes']}: measured on the queue in process, which is not in this run")
        return []
    arm = Arm("scaling", {"turns": turns_for(profile.busy_s), "count": profile.busy_jobs})
    return [Group("processes", "in process", {"both": arm}, profile.rounds)]


def _records(urls: dict[str, str], profile: Profile, _: list[str]) -> list[Group]:
    stores = {"SQLite": "sqlite" if "in process" in urls else None, "PostgreSQL": urls.get("PostgreSQL")}
    return [
        Group(
            "records",
            backend,
            {"both": Arm("read_records", {"store_url": url, "count": profile.records, "samples": profile.reads})},
            1,
        )
        for backend, url in stores.items()
        if url is not None
    ]
