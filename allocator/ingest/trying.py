"""Tries placement rules on files that were not sent: what they are, where they would go, and why."""

import hashlib
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from allocator.ingest.errors import Unreadable
from allocator.ingest.identify import Identity, identify
from allocator.ingest.processors import MEMORY_BYTES, facts_of
from allocator.ingest.rules import Check, Rule, Rules, Subject

FILE_S = 60.0
"""How long one file may take."""


@dataclass(frozen=True)
class Passed:
    """A rule that came before the one that decided, and the first thing that it asks for in vain."""

    rule: str
    missed: Check


@dataclass(frozen=True)
class Trial:
    """
    What would become of a file.

    Args:
        file: As given.
        problem: Why it would not be placed, but end as a dead letter; None where it would be placed.
        kind, type: By content; None where it cannot be read.
        facts: What it says of itself.
        rule, path: Where it would be placed, and by which rule.
        held: What that rule asks for.
        passed: The rules before it.
    """

    file: str
    problem: str | None = None
    kind: str | None = None
    type: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    rule: str | None = None
    path: str | None = None
    held: list[Check] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)


def try_rules(files: Iterable[Path], rules: Rules, owner: str) -> Iterator[Trial]:
    """
    One trial for each file, received now from `owner`. The files are read in a process of its own, within bounds.

    What is placed next to other files under the same path may get a mark in its name, which only the library knows.
    """
    context = multiprocessing.get_context("spawn")
    files = list(files)
    while files:
        # A new process after one that has broken on a file.
        with context.Pool(1, _bound) as pool:
            while files:
                file = files.pop(0)
                try:
                    yield _trial(file, pool.apply_async(_look, (file,)).get(FILE_S), rules, owner)
                except multiprocessing.TimeoutError:
                    yield Trial(str(file), f"whoever reads it has broken down, or took more than {FILE_S:g} s")
                    break
                except OSError as error:
                    yield Trial(str(file), f"cannot be read: {error.strerror or error}")


class _Seen(NamedTuple):
    identity: Identity
    size: int
    sha256: str
    facts: dict[str, Any]
    problem: str | None


def _trial(file: Path, seen: _Seen, rules: Rules, owner: str) -> Trial:
    kind, type = seen.identity.kind, seen.identity.type
    if seen.problem is not None:
        return Trial(str(file), seen.problem, kind, type)
    taken_at = seen.facts.get("taken_at")
    subject = Subject(file.name, kind, type, seen.size, owner, time.time(), taken_at, seen.sha256)
    placement = rules.place(subject)
    passed: list[Passed] = []
    decided: Rule | None = None
    for rule in rules.rules:
        checks = rule.checks(subject)
        if all(check.holds for check in checks):
            decided = rule
            break
        passed.append(Passed(rule.name, next(check for check in checks if not check.holds)))
    return Trial(
        str(file),
        None,
        kind,
        type,
        seen.facts,
        placement.rule,
        placement.path,
        [] if decided is None else decided.checks(subject),
        passed,
    )


# In the process that reads


def _bound() -> None:
    from allocator.ingest.facts import bound_memory

    bound_memory(MEMORY_BYTES)


def _look(file: Path) -> _Seen:
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        size = opened.tell()
    identity = identify(file, file.name)
    try:
        return _Seen(identity, size, sha256, facts_of(file, identity, sha256), None)
    except Unreadable as error:
        return _Seen(identity, size, sha256, {}, error.reason)
