"""
What a queue holds, from the server's keys or rows, read without the code under test.

What does not fit together is told under the promise that it breaks: what is there and should not be is invented, what
should be there and is not, lost.
"""

import json
import re
from collections import Counter, defaultdict
from typing import Any

import psycopg
import redis

from allocator.bench.checker import Layout, Promise
from allocator.services import Server

LOST, INVENTED, RETRIED, ORDER = Promise.LOST, Promise.INVENTED, Promise.RETRIED, Promise.ORDER

Problems = list[tuple[Promise, str]]


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


def _finish(places: dict[str, list[str]], records: dict[str, bytes], problems: Problems) -> Layout:
    for job_id, found in places.items():
        if len(found) != 1:
            problems.append((INVENTED, f"{job_id} is in {len(found)} places: {', '.join(found)}"))
        if job_id not in records:
            problems.append((LOST, f"{job_id} is {found[0]} and has no record"))
    problems += [(LOST, f"{job_id} has a record and no place") for job_id in records if job_id not in places]
    marks = {}
    for job_id, record in records.items():
        try:
            marks[job_id] = json.loads(record)["payload"]["mark"]
        except (ValueError, KeyError, TypeError):
            continue
    return Layout(places, marks, problems)


def _read_redis(client: Any, name: str) -> tuple[dict[str, list[str]], dict[str, bytes], Problems]:
    prefix = f"allocator:{{{name}}}:"
    problems: Problems = []
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
                problems.append(
                    (ORDER, f"{job_id} is {key} with the sequence {sequence}, its record says {header[1:2]}")
                )
            if key == "ready" and header and score != -int(header[2]):
                problems.append((ORDER, f"{job_id} is ready with the score {score}, its priority is {header[2]}"))
    for member, score in client.zrange(prefix + "leased", 0, -1, withscores=True):
        job_id = text(member)
        places[job_id].append("leased")
        state = states.get(job_id)
        if state is None or state[0] == "-" or int(state[1]) != int(score):
            problems.append((LOST, f"{job_id} is leased until {score}, its state is {state}"))
    for member in client.zrange(prefix + "dead:order", 0, -1):
        places[text(member)].append("dead")

    dead = {job_id for job_id, found in places.items() if "dead" in found}
    problems += [(INVENTED, f"{job_id} is in dead:info alone") for job_id in dead_info.keys() - dead]
    problems += [(LOST, f"{job_id} is dead without its info") for job_id in dead - dead_info.keys()]
    problems += [
        (INVENTED, f"{job_id} has a record as a living and as a dead job") for job_id in jobs.keys() & dead_jobs.keys()
    ]
    problems += [(INVENTED, f"{job_id} has a state and no record") for job_id in tries.keys() - jobs.keys()]
    for job_id, state in states.items():
        if state[0] != "-" and "leased" not in places.get(job_id, []):
            problems.append((LOST, f"{job_id} has a token and no lease"))
    problems += [
        (LOST, f"{i} is scheduled without a state") for i, p in places.items() if "scheduled" in p and i not in states
    ]

    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"
    known = {"meta", "jobs", "tries", "ready", "scheduled", "leased", "cancelled", "wake", "gate"}
    known |= {"dead:order", "dead:jobs", "dead:info"}
    for key in client.scan_iter(pattern, count=1000):
        short = text(key).removeprefix(prefix)
        if short.startswith("attempts:"):
            job_id = short.removeprefix("attempts:")
            if job_id not in jobs and job_id not in dead_jobs:
                problems.append((INVENTED, f"{job_id} has attempts and no record"))
            elif job_id in states and states[job_id][2] == "0":
                problems.append((INVENTED, f"{job_id} has attempts, its state counts none"))
        elif short not in known and not short.startswith("call:"):
            problems.append((INVENTED, f"{short} is a key that nobody should have made"))
    for job_id, state in states.items():
        kept = min(int(state[2]), 40)
        if client.llen(f"{prefix}attempts:{job_id}") != kept:
            problems.append((RETRIED, f"{job_id} keeps another number of attempts than {kept}"))

    bodies = {job_id: record.partition(b"\n")[2] for job_id, record in (dead_jobs | jobs).items()}
    return dict(places), bodies, problems


def _read_postgres(connection: Any, name: str) -> tuple[dict[str, list[str]], dict[str, bytes], Problems]:
    problems: Problems = []
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
                problems.append(
                    (ORDER, f"{job_id} is {place} at {rank}, {sequence}, its record says {-job[1]}, {job[0]}")
                )
            if kept[job_id] != min(attempt_count, 40):
                problems.append((RETRIED, f"{job_id} keeps {kept[job_id]} attempts of {attempt_count}"))
    for job_id, attempt_count in rows("t.id, t.attempt_count", "dead"):
        places[job_id].append("dead")
        if kept[job_id] != min(attempt_count, 40):
            problems.append((RETRIED, f"{job_id} keeps {kept[job_id]} attempts of {attempt_count}"))
    problems += [(INVENTED, f"{job_id} has attempts and no record") for job_id in kept.keys() - jobs.keys()]
    return dict(places), {job_id: bytes(job[2]) for job_id, job in jobs.items()}, problems
