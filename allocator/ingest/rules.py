"""
Placement: which rule decides where in the library a file belongs, and the path that it gives.

Rules are data, as in rules.toml beside this module, where they are explained. All are checked when they are loaded.
"""

import string
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any

from allocator.ingest.errors import WrongRules
from allocator.ingest.identify import Kind
from allocator.ingest.names import safe_component, safe_suffix, split_name

FIELDS = frozenset(
    ("kind", "type", "subtype", "owner", "name", "stem", "suffix", "sha256", "year", "month", "day"),
)
MAX_COMPONENTS = 20
MAX_RULES_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Subject:
    """
    What is to be placed.

    Args:
        name: As its owner called it; any text.
        kind: One of Kind.
        type: MIME type.
        size_bytes: Its size.
        owner: Whose it is; any text, also none.
        received_at: Seconds since 1970.
        taken_at: When it was taken or recorded, if it says so; seconds since 1970.
        sha256: Of its bytes.
    """

    name: str
    kind: str
    type: str
    size_bytes: int
    owner: str
    received_at: float
    taken_at: float | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Placement:
    """The name of the rule that decided, and the path that it gives, relative and with "/" between components."""

    rule: str
    path: str


@dataclass(frozen=True)
class Check:
    """One thing that a rule asks for: the field of its `match`, the value there, and whether a subject has it."""

    field: str
    value: Any
    holds: bool


@dataclass(frozen=True)
class Rule:
    """A rule as loaded; see rules.toml. `path` is the template, component by component."""

    name: str
    path: tuple[str, ...]
    kind: str | None = None
    type: str | None = None
    owner: str | None = None
    size_min: int | None = None
    size_max: int | None = None
    after: float | None = None
    before: float | None = None

    def checks(self, subject: Subject) -> list[Check]:
        """What it asks for, one by one."""
        at = _dated_at(subject)
        asked: list[tuple[str, object, Callable[[Any], bool]]] = [
            ("kind", self.kind, lambda kind: kind == subject.kind),
            ("type", self.type, lambda glob: fnmatchcase(subject.type.lower(), glob)),
            ("owner", self.owner, lambda glob: fnmatchcase(subject.owner, glob)),
            ("size_min", self.size_min, lambda least: subject.size_bytes >= least),
            ("size_max", self.size_max, lambda most: subject.size_bytes <= most),
            ("after", self.after, lambda first: at >= first),
            ("before", self.before, lambda end: at < end),
        ]
        return [Check(field, value, holds(value)) for field, value, holds in asked if value is not None]

    def matches(self, subject: Subject) -> bool:
        """Whether all that it asks for holds."""
        return all(check.holds for check in self.checks(subject))


FALLBACK = Rule("(none)", ("unsorted", "{year}", "{month}", "{name}"))
"""Places what no rule matches, so that nothing is left without a place."""


@dataclass(frozen=True)
class Rules:
    """Rules in their order; `source` names where they came from."""

    source: str
    rules: tuple[Rule, ...]

    def place(self, subject: Subject) -> Placement:
        """The path that the first matching rule gives, else that of FALLBACK. Any subject has one."""
        rule = next((rule for rule in self.rules if rule.matches(subject)), FALLBACK)
        values = _values(subject)
        # Made safe a second time, since several values and the text between them may meet in one component.
        return Placement(rule.name, "/".join(safe_component(part.format_map(values)) for part in rule.path))


def load_rules(path: Path | str | None = None) -> Rules:
    """
    Read rules from a TOML file; None: the default set.

    Raises:
        WrongRules: Something in it is wrong; names the file, the rule and the field. No rule is taken then.
        OSError: The file cannot be read.
    """
    if path is None:
        return parse_rules(files("allocator.ingest").joinpath("rules.toml").read_bytes(), "the default rules")
    with open(path, "rb") as file:
        return parse_rules(file.read(MAX_RULES_BYTES + 1), str(path))


def parse_rules(content: bytes, source: str) -> Rules:
    """Rules from the bytes of a TOML file; `source` names it in errors. Raises WrongRules."""
    if len(content) > MAX_RULES_BYTES:
        raise WrongRules(source, "", "", f"more than {MAX_RULES_BYTES:,} bytes are no set of rules")
    try:
        data = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise WrongRules(source, "", "", f"no valid TOML: {error}") from None
    _refuse_unknown(data, {"rule"}, source, "", "")
    entries = data.get("rule")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise WrongRules(source, "", "rule", "there are no rules; write at least one [[rule]] with a name and a path")
    rules: list[Rule] = []
    for number, entry in enumerate(entries, 1):
        rule = _Reader(source, number, entry).rule()
        if any(rule.name == other.name for other in rules):
            raise WrongRules(source, repr(rule.name), "name", "another rule has it; a name belongs to one rule")
        rules.append(rule)
    return Rules(source, tuple(rules))


class _Reader:
    """Reads one rule, and says of the first wrong field what is wrong."""

    def __init__(self, source: str, number: int, entry: Mapping[str, Any]) -> None:
        self._source = source
        self._entry = entry
        name = entry.get("name")
        self._title = repr(name) if isinstance(name, str) and name else f"number {number}"

    def rule(self) -> Rule:
        _refuse_unknown(self._entry, {"name", "match", "path"}, self._source, self._title, "")
        name = self._entry.get("name")
        if not isinstance(name, str) or not name.strip() or len(name) > 100 or not name.isprintable():
            raise self._wrong("name", f"must be a text of 1 to 100 printable characters, not {name!r}")
        match = self._entry.get("match", {})
        if not isinstance(match, dict):
            raise self._wrong("match", f'must be a table such as {{ kind = "media" }}, not {match!r}')
        known = {"kind", "type", "owner", "size_min", "size_max", "after", "before"}
        _refuse_unknown(match, known, self._source, self._title, "match")
        kind = self._text(match, "kind")
        if kind is not None and kind not in set(Kind):
            raise self._wrong("match.kind", f"must be one of {', '.join(Kind)}, not {kind!r}")
        size_min, size_max = self._size(match, "size_min"), self._size(match, "size_max")
        if size_min is not None and size_max is not None and size_min > size_max:
            raise self._wrong("match.size_min", f"{size_min} is more than size_max ({size_max}): nothing would match")
        after, before = self._instant(match, "after"), self._instant(match, "before")
        if after is not None and before is not None and after >= before:
            raise self._wrong("match.after", "is not earlier than before: nothing would match")
        type_glob = self._text(match, "type")
        return Rule(
            name,
            self._template(),
            kind,
            None if type_glob is None else type_glob.lower(),
            self._text(match, "owner"),
            size_min,
            size_max,
            after,
            before,
        )

    def _template(self) -> tuple[str, ...]:
        path = self._entry.get("path")
        if not isinstance(path, str) or not path.strip():
            raise self._wrong("path", f'must be a template such as "pictures/{{year}}/{{name}}", not {path!r}')
        if path.startswith(("/", "\\", "~")) or path[1:3] in (":/", ":\\"):
            raise self._wrong("path", f"{path!r} must be relative: all paths lie inside the library")
        if "\\" in path or not path.isprintable():
            raise self._wrong("path", f"{path!r} has a backslash or a control character; write / between folders")
        parts = tuple(path.split("/"))
        if len(parts) > MAX_COMPONENTS:
            raise self._wrong("path", f"has {len(parts)} components, of which {MAX_COMPONENTS} are the most")
        for part in parts:
            if not part.strip() or part.strip() in (".", ".."):
                raise self._wrong("path", f"{path!r} has the component {part!r}; name every folder and the file")
            self._check_fields(path, part)
        return parts

    def _check_fields(self, path: str, part: str) -> None:
        try:
            pieces = list(string.Formatter().parse(part))
        except ValueError as error:
            raise self._wrong(
                "path", f"{path!r}: {error}; a field is one word in braces, inside of one component"
            ) from None
        for _, field, form, conversion in pieces:
            if field is None:
                continue
            if form or conversion or field not in FIELDS:
                said = f"{{{field}{'!' + conversion if conversion else ''}{':' + form if form else ''}}}"
                raise self._wrong(
                    "path", f"{path!r} has the unknown field {said}; there are {', '.join(sorted(FIELDS))}"
                )

    def _text(self, match: Mapping[str, Any], key: str) -> str | None:
        value = match.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            raise self._wrong(f"match.{key}", f"must be a text, not {value!r}")
        return value

    def _size(self, match: Mapping[str, Any], key: str) -> int | None:
        value = match.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise self._wrong(f"match.{key}", f"must be a number of bytes, 0 or more, not {value!r}")
        return value

    def _instant(self, match: Mapping[str, Any], key: str) -> float | None:
        value = match.get(key)
        if value is None:
            return None
        try:
            when = datetime.fromisoformat(value) if isinstance(value, str) else value
            if isinstance(when, date) and not isinstance(when, datetime):
                when = datetime(when.year, when.month, when.day)
            if isinstance(when, datetime):
                at = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
                # At the ends of the calendar a zone may lead out of it.
                if _day(at) is not None:
                    return at
        except (ValueError, OverflowError):
            pass
        raise self._wrong(f"match.{key}", f"must be a date such as 2024-01-31, or an instant, not {value!r}")

    def _wrong(self, field: str, problem: str) -> WrongRules:
        return WrongRules(self._source, self._title, field, problem)


def _refuse_unknown(table: Mapping[str, Any], known: set[str], source: str, rule: str, field: str) -> None:
    for key in table:
        if key not in known:
            place = f"{field}.{key}" if field else key
            raise WrongRules(source, rule, place, f"there is no such key; there are {', '.join(sorted(known))}")


def _dated_at(subject: Subject) -> float:
    return subject.received_at if subject.taken_at is None else subject.taken_at


def _values(subject: Subject) -> dict[str, str]:
    name = safe_component(subject.name)
    stem, suffix = split_name(name)
    when = _day(_dated_at(subject)) or _day(subject.received_at) or datetime(1970, 1, 1, tzinfo=UTC)
    _, _, subtype = subject.type.partition("/")
    return {
        "kind": safe_component(subject.kind),
        "type": safe_component(subject.type),
        "subtype": safe_component(subtype),
        "owner": safe_component(subject.owner),
        "name": name,
        "stem": stem,
        "suffix": safe_suffix(suffix),
        "sha256": safe_component(subject.sha256),
        "year": f"{when.year:04}",
        "month": f"{when.month:02}",
        "day": f"{when.day:02}",
    }


def _day(at: float) -> datetime | None:
    """The instant in UTC; None outside of the years 1 to 9999, from which some cameras report."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    except (OverflowError, ValueError):
        return None
