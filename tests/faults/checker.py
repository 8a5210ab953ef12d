"""
Judges what clients left behind, from their logs and from the server's keys or rows, read without the code under test.

Each finding is a sentence that names the job. No findings: nothing lost, nothing invented, nothing in two places.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import redis

from allocator.services import Server


class Layout(msgspec.Struct):
    """
    What a queue holds, read raw.

    Args:
        places: Job id to the places where it stands: ready, scheduled, leased, dead. More than one is a finding.
        marks: Job id to the mark in its payload.
        problems: What does not fit together.
    """

    places: dict[str, list[str]]
    marks: dict[str, str]
    problems: list[str]

    def counts(self) -> Counter[str]:
        """How many jobs stand in each place."""
        return Counter(place for places in self.places.values() for place in places)


def read_layout(server: Server, name: str) -> Layout:
    """The jobs of a queue on a server at rest: nobody may be changing it meanwhile."""
    if server.name == "postgres":
        with psycopg.connect(server.url) as connection:
            return _finish(*_read_postgres(connection, name))
    client = redis.Redis.from_url(server.url)
    try:
        return redis_layout(client, name)
    finally:
        client.close()


def redis_layout(client: "redis.Redis[bytes]", name: str) -> Layout:
    """As `read_layout`; the client's server holds all keys of the queue."""
    return _finish(*_read_redis(client, name))


def _finish(places: dict[str, list[str]], records: dict[str, bytes], problems: list[str]) -> Layout:
    for job_id, found in places.items():
        if len(found) != 1:
            problems.append(f"{job_id} is in {len(found)} places: {', '.join(found)}")
        if job_id not in records:
            problems.append(f"{job_id} is {found[0]} and has no record")
    problems += [f"{job_id} has a record and no place" for job_id in records if job_id not in places]
    marks = {}
    for job_id, record in records.items():
        try:
            marks[job_id] = json.loads(record)["payload"]["mark"]
        except (ValueError, KeyError, TypeError):
            continue
    return Layout(places, marks, problems)


def _read_redis(client: Any, name: str) -> tuple[dict[str, list[str]], dict[str, bytes], list[str]]:
    prefix = f"allocator:{{{name}}}:"
    problems: list[str] = []
    places: dict[str, list[str]] = defaultdict(list)

    def text(value: bytes) -> str:
        return value.decode("utf-8", "backslashreplace")

    def hash_of(key: str) -> dict[str, bytes]:
        return {text(field): value for field, value in client.hgetall(prefix + key).items()}

    jobs, tries = hash_of("jobs"), hash_of("tries")
    dead_jobs, dead_info = hash_of("dead:jobs"), hash_of("dead:info")
    states = {job_id: text(state).split(" ", 11) for job_id, state in tries.items()}
    headers = {job_id: text(record.partition(b"\n")[0]).split(" ") for job_id, record in jobs.items()}

    for key in ("ready", "scheduled"):
        for member, score in client.zrange(prefix + key, 0, -1, withscores=True):
            sequence, _, job_id = text(member).partition(":")
            places[job_id].append(key)
            header = headers.get(job_id, [])
            if header[1:2] != [sequence]:
                problems.append(f"{job_id} is {key} with the sequence {sequence}, its record says {header[1:2]}")
            if key == "ready" and header and score != -int(header[2]):
                problems.append(f"{job_id} is ready with the score {score}, its priority is {header[2]}")
    for member, score in client.zrange(prefix + "leased", 0, -1, withscores=True):
        job_id = text(member)
        places[job_id].append("leased")
        state = states.get(job_id)
        if state is None or state[0] == "-" or int(state[1]) != int(score):
            problems.append(f"{job_id} is leased until {score}, its state is {state}")
    for member in client.zrange(prefix + "dead:order", 0, -1):
        places[text(member)].append("dead")

    dead = {job_id for job_id, found in places.items() if "dead" in found}
    problems += [f"{job_id} is in dead:info alone" for job_id in dead_info.keys() - dead]
    problems += [f"{job_id} is dead without its info" for job_id in dead - dead_info.keys()]
    problems += [f"{job_id} has a record as a living and as a dead job" for job_id in jobs.keys() & dead_jobs.keys()]
    problems += [f"{job_id} has a state and no record" for job_id in tries.keys() - jobs.keys()]
    for job_id, state in states.items():
        if state[0] != "-" and "leased" not in places.get(job_id, []):
            problems.append(f"{job_id} has a token and no lease")
    problems += [f"{i} is scheduled without a state" for i, p in places.items() if "scheduled" in p and i not in states]

    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"
    known = {"meta", "jobs", "tries", "ready", "scheduled", "leased", "cancelled", "wake", "gate"}
    known |= {"dead:order", "dead:jobs", "dead:info"}
    for key in client.scan_iter(pattern, count=1000):
        short = text(key).removeprefix(prefix)
        if short.startswith("attempts:"):
            job_id = short.removeprefix("attempts:")
            if job_id not in jobs and job_id not in dead_jobs:
                problems.append(f"{job_id} has attempts and no record")
            elif job_id in states and states[job_id][2] == "0":
                problems.append(f"{job_id} has attempts, its state counts none")
        elif short not in known and not short.startswith("call:"):
            problems.append(f"{short} is a key that nobody should have made")
    for job_id, state in states.items():
        kept = min(int(state[2]), 40)
        if client.llen(f"{prefix}attempts:{job_id}") != kept:
            problems.append(f"{job_id} keeps another number of attempts than {kept}")

    bodies = {job_id: record.partition(b"\n")[2] for job_id, record in (dead_jobs | jobs).items()}
    return dict(places), bodies, problems


def _read_postgres(connection: Any, name: str) -> tuple[dict[str, list[str]], dict[str, bytes], list[str]]:
    problems: list[str] = []
    places: dict[str, list[str]] = defaultdict(list)

    def rows(columns: str, table: str) -> list[tuple[Any, ...]]:
        query = f"SELECT {columns} FROM allocator.{table} t JOIN allocator.queues q ON q.id = t.queue_id"
        return connection.execute(f"{query} WHERE q.name = %s ORDER BY t.id", (name,)).fetchall()

    jobs = {row[0]: row[1:] for row in rows("t.id, t.sequence, t.priority, t.record", "jobs")}
    kept = Counter(row[0] for row in rows("t.id", "attempts"))
    for table, place in (("ready", "ready"), ("scheduled", "scheduled"), ("leases", "leased")):
        for job_id, sequence, rank, attempt_count in rows("t.id, t.sequence, t.rank, t.attempt_count", table):
            places[job_id].append(place)
            job = jobs.get(job_id)
            if job is not None and (job[0], -job[1]) != (sequence, rank):
                problems.append(f"{job_id} is {place} at {rank}, {sequence}, its record says {-job[1]}, {job[0]}")
            if kept[job_id] != min(attempt_count, 40):
                problems.append(f"{job_id} keeps {kept[job_id]} attempts of {attempt_count}")
    for job_id, attempt_count in rows("t.id, t.attempt_count", "dead"):
        places[job_id].append("dead")
        if kept[job_id] != min(attempt_count, 40):
            problems.append(f"{job_id} keeps {kept[job_id]} attempts of {attempt_count}")
    problems += [f"{job_id} has attempts and no record" for job_id in kept.keys() - jobs.keys()]
    return dict(places), {job_id: bytes(job[2]) for job_id, job in jobs.items()}, problems


class Call(msgspec.Struct):
    """One call of a client; `outcome` is None where the client was killed before it could tell."""

    client: str
    op: str
    facts: dict[str, Any]
    outcome: dict[str, Any] | None = None


class History:
    """The calls of all clients of a queue, from their logs."""

    def __init__(self, logs: Iterable[Path]) -> None:
        self.calls: list[Call] = []
        self.errors: list[str] = []
        for log in logs:
            self._read(log)

    def _read(self, log: Path) -> None:
        by_number: dict[int, Call] = {}
        # A kill can cut the last line short. Of an intention it says that the call was not begun, of an outcome that it
        # is not known; as if it were not there.
        *lines, _ = log.read_text().split("\n")
        for line in lines:
            entry = json.loads(line)
            if "error" in entry:
                self.errors.append(f"client {log.stem}: {entry['error']}")
            elif "outcome" in entry:
                by_number[entry["call"]].outcome = entry["outcome"]
            else:
                call = Call(log.stem, entry.pop("op"), entry)
                by_number[entry["call"]] = call
                self.calls.append(call)

    @property
    def unknown(self) -> list[Call]:
        """Calls under way at a kill."""
        return [call for call in self.calls if call.outcome is None]


def judge(history: History, layout: Layout, counts: dict[str, int], find: Callable[[list[str]], Any]) -> list[str]:
    """
    What is wrong with a queue whose clients did what `history` tells.

    Args:
        layout: Read while no client ran.
        counts: As the queue tells them.
        find: The queue's.
    """
    problems = history.errors + list(layout.problems)
    # For each job: how often it was accepted, and how often its stay in the queue was ended; for sure, and perhaps.
    accepted: Counter[str] = Counter()
    perhaps_accepted: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    perhaps_ended: Counter[str] = Counter()
    known_marks: dict[str, set[str]] = defaultdict(set)
    acked = perhaps_acked = cancelled = purged = perhaps_purged = 0
    evidence = set(layout.places)

    for call in history.calls:
        facts, outcome = call.facts, call.outcome
        if call.op in ("enqueue", "enqueue_many"):
            first_marks: dict[str, str] = {}
            for job_id, mark in facts["jobs"]:
                known_marks[job_id].add(mark)
                first_marks.setdefault(job_id, mark)
            if outcome is None:
                perhaps_accepted.update(first_marks.keys())
            else:
                stored = dict(outcome["stored"])
                evidence |= stored.keys()
                accepted.update(job_id for job_id, mark in stored.items() if first_marks[job_id] == mark)
                if [job_id for job_id, _ in facts["jobs"]] != [job_id for job_id, _ in outcome["stored"]]:
                    problems.append(f"client {call.client} call {facts['call']}: the jobs came back as others")
        elif call.op == "settle":
            evidence |= {job_id for job_id, _ in facts["acks"] + facts["others"]}
            for job_id, token in facts["acks"]:
                if outcome is None:
                    perhaps_ended[job_id] += 1
                    perhaps_acked += 1
                elif token not in outcome["lost"]:
                    ended[job_id] += 1
                    acked += 1
        elif call.op == "dequeue_many" and outcome is not None:
            evidence |= {job_id for job_id, _ in outcome["leased"]}
        elif call.op == "cancel" and (outcome is None or outcome["done"]):
            # A mark on a leased job that was acked or lived on is no end.
            perhaps_ended[facts["id"]] += 1
            cancelled += 1
        elif call.op == "purge_dead":
            evidence.add(facts["id"])
            if outcome is None:
                perhaps_ended[facts["id"]] += 1
                perhaps_purged += 1
            elif outcome["count"]:
                ended[facts["id"]] += 1
                purged += 1

    ids = accepted.keys() | perhaps_accepted.keys() | layout.places.keys() | ended.keys()
    for job_id in sorted(ids):
        present = int(job_id in layout.places)
        least, most = accepted[job_id], accepted[job_id] + perhaps_accepted[job_id]
        if least > present + ended[job_id] + perhaps_ended[job_id]:
            problems.append(f"{job_id} is lost: accepted {least} times, ended {ended[job_id]}, and not in the queue")
        if present + ended[job_id] > most:
            problems.append(f"{job_id} is invented or doubled: accepted {most} times, ended {ended[job_id]}, present")
    for job_id, mark in layout.marks.items():
        if mark not in known_marks[job_id]:
            problems.append(f"{job_id} holds the payload of nobody: {mark}")

    for call in history.unknown:
        if call.op == "enqueue_many":
            fresh = {job_id for job_id, mark in call.facts["jobs"] if job_id == f"job-{mark}"}
            seen = fresh & evidence
            if seen and seen != fresh:
                problems.append(f"client {call.client}: a list was accepted in part: {sorted(seen)} of {sorted(fresh)}")

    least = sum(accepted.values())
    problems += _judge_counts(layout, counts, least, least + sum(perhaps_accepted.values()))
    for total, least, most in (
        ("done", acked, acked + perhaps_acked),
        ("purged", purged, purged + perhaps_purged),
        ("cancelled", 0, cancelled),
    ):
        if not least <= counts[total] <= most:
            problems.append(f"counts tells {counts[total]} {total}, the clients know of {least} to {most}")

    everything = sorted(known_marks)
    found = {job_id: str(state) for job_id, state in find(everything).items() if str(state) != "cancelled"}
    for job_id in everything:
        place = layout.places.get(job_id, [None])[0]
        # What has come due since somebody looked is ready, wherever it stands.
        if found.get(job_id) != place and not (place == "scheduled" and found.get(job_id) == "ready"):
            problems.append(f"{job_id}: find says {found.get(job_id)}, it stands in {place}")
    return problems


def _judge_counts(layout: Layout, counts: dict[str, int], least: int, most: int) -> list[str]:
    problems = []
    places = layout.counts()
    for where, counted, stands in (
        ("waiting", counts["ready"] + counts["scheduled"], places["ready"] + places["scheduled"]),
        ("leased", counts["leased"], places["leased"]),
        ("dead", counts["dead"], places["dead"]),
    ):
        if counted != stands:
            problems.append(f"counts tells {counted} {where}, there are {stands}")
    total = sum(counts.values())
    if not least <= total <= most:
        problems.append(f"{least} to {most} jobs were accepted, the queue accounts for {total}")
    return problems
