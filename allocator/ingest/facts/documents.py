"""
Facts of JSON: the schema over all documents, and whether they suit a table or a document.

How the latter is decided. The records are the items of documents that are arrays, and the other documents themselves.
They suit a table if all of this holds, else a document, with the first reason that fails:
1. there are at least two records, and each is an object;
2. each value is text, a number, true, false or null: nothing is nested;
3. keys are shared: of all the cells that a table of these records would have, at least half are there;
4. a column has one type (integers and other numbers are one; null fits any);
5. there are at most 1,000 columns.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from genson import SchemaBuilder  # type: ignore[import-untyped,unused-ignore]

from allocator.domain.payload import MAX_DEPTH
from allocator.ingest.errors import Unreadable
from allocator.ingest.facts.bounds import plain_text, too_large
from allocator.ingest.identify import MAX_JSON_BYTES

MAX_VALUES = 2_000_000
"""Values that the schema is inferred from; some ten seconds of work."""

MAX_SCHEMA_BYTES = 256 * 1024
"""Largest schema that is kept: objects that are used as maps have a property for every key."""

MAX_KEYS = 20_000
"""Different keys, above which no schema is inferred: it would be larger than that, and takes memory for each."""

MAX_COLUMNS = 1000
LEAST_FILLED = 0.5

# Numbers that overflow a float are JSON all the same.
_DECODER = msgspec.json.Decoder(float_hook=float)
_BOM = b"\xef\xbb\xbf"
_WORD = re.compile(r"[A-Za-z0-9_. -]{1,60}")


def json_facts(paths: Iterable[Path | str] = (), documents: Iterable[Any] = ()) -> dict[str, Any]:
    """
    What JSON says of itself.

    `documents` and `records` (counts), `schema` (JSON Schema, or None), `schema_note` (what it leaves out, or None),
    `suits` ("table", "document", or None if nothing was parsed), `reason` (a sentence), `parsed`.

    Args:
        paths: Files of JSON or NDJSON. If together they have more than MAX_JSON_BYTES, none is parsed, and `reason`
            says so; `documents` is then None.
        documents: Further documents, parsed already.
    Raises:
        Unreadable: A file is no JSON, is nested deeper than MAX_DEPTH levels, or needs more memory than there is.
        OSError: A file cannot be read.
    """
    files = [Path(path) for path in paths]
    size = sum(path.stat().st_size for path in files)
    if size > MAX_JSON_BYTES:
        reason = f"Not parsed: {size:,} bytes of JSON are more than the {MAX_JSON_BYTES:,} that are looked into."
        return {
            "parsed": False,
            "documents": None,
            "records": None,
            "schema": None,
            "schema_note": "not parsed",
            "suits": None,
            "reason": reason,
        }
    try:
        return _facts(files, documents)
    except MemoryError:
        raise too_large("JSON") from None


def _facts(files: list[Path], documents: Iterable[Any]) -> dict[str, Any]:
    schema = _Schema()
    table = _Table()
    keys: set[str] = set()
    count = 0
    for document in _all(files, documents):
        values, deep = _measure(document, keys)
        if deep:
            raise Unreadable(f"This JSON is nested deeper than {MAX_DEPTH} levels, too deep to be looked into.")
        count += 1
        schema.add(document, values, len(keys))
        for record in document if isinstance(document, list) else (document,):
            table.add(record)
    suits, reason = table.verdict()
    found, note = schema.result()
    return {
        "parsed": True,
        "documents": count,
        "records": table.records,
        "schema": found,
        "schema_note": note,
        "suits": suits,
        "reason": reason,
    }


def _all(files: list[Path], documents: Iterable[Any]) -> Iterator[Any]:
    for path in files:
        yield from _documents(path.read_bytes())
    yield from documents


def _documents(data: bytes) -> Iterator[Any]:
    """The document of a file, or those of its lines."""
    body = data.removeprefix(_BOM)
    try:
        yield _DECODER.decode(body)
        return
    except RecursionError:
        raise Unreadable(f"This JSON is nested deeper than {MAX_DEPTH} levels, too deep to be looked into.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = error
    first_end = body.find(b"\n")
    if first_end < 0 or not body[first_end:].strip():
        raise _refused(problem)
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield _DECODER.decode(line)
        except RecursionError:
            raise Unreadable(
                f"Line {number} is nested deeper than {MAX_DEPTH} levels, too deep to look into."
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if number == 1:
                # Then it was never meant to be lines.
                raise _refused(problem) from None
            raise _refused(error, f" in line {number}") from None


def _refused(error: Exception, line: str = "") -> Unreadable:
    if "Integer value out of range" in str(error):
        # Python's limit, which the parser keeps as well.
        return Unreadable(f"This JSON has an integer of more than 4,300 digits{line}, too long to be looked into.")
    return Unreadable(f"This is no JSON{line}: {plain_text(str(error)).rstrip('.')}.")


def _measure(document: Any, keys: set[str]) -> tuple[int, bool]:
    """How many values a document has, and whether it is nested too deep; its keys are added. Without recursion."""
    count = 0
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        count += len(level)
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                keys.update(value)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return count, False
        level = below
    return count, True


class _Schema:
    """Infers one JSON Schema over documents, within bounds of work and size."""

    def __init__(self) -> None:
        self._builder = SchemaBuilder()
        self._values = 0
        self._left_out = 0
        self._keys = 0

    def add(self, document: Any, values: int, keys: int) -> None:
        """Another document, of so many values; `keys` is how many different ones there were in all so far."""
        self._keys = keys
        if keys > MAX_KEYS:
            return
        if self._values + values > MAX_VALUES:
            self._left_out += 1
            return
        self._values += values
        self._builder.add_object(document)

    def result(self) -> tuple[dict[str, Any] | None, str | None]:
        """The schema, and a note on what it leaves out."""
        if self._keys > MAX_KEYS:
            return None, f"left out: it would have more than {MAX_KEYS:,} keys, which are data"
        found: dict[str, Any] = self._builder.to_schema()
        size = len(msgspec.json.encode(found))
        if size > MAX_SCHEMA_BYTES:
            return None, f"left out: its {size:,} bytes are more than {MAX_SCHEMA_BYTES:,}; its keys are data"
        if self._left_out:
            return found, f"without {self._left_out} documents: more than {MAX_VALUES:,} values"
        return found, None


class _Table:
    """Collects records, and says whether they are the rows of a table."""

    def __init__(self) -> None:
        self.records = 0
        self._cells = 0
        self._columns: dict[str, str] = {}
        self._against = ""

    def add(self, record: Any) -> None:
        self.records += 1
        if self._against:
            return
        if not isinstance(record, dict):
            self._against = f"record {self.records} is {_kind(record)}, not an object"
            return
        self._cells += len(record)
        for key, value in record.items():
            kind = _kind(value)
            known = self._columns.setdefault(key, kind)
            if isinstance(value, dict | list):
                self._against = f"{_named(key)} of record {self.records} is {kind}"
            elif known == "null":
                self._columns[key] = kind
            elif kind not in ("null", known):
                self._against = f"{_named(key)} is {known} in one record and {kind} in record {self.records}"
            if self._against:
                return
        if len(self._columns) > MAX_COLUMNS:
            self._against = f"they have more than {MAX_COLUMNS:,} different keys"

    def verdict(self) -> tuple[str, str]:
        """Table or document, and why."""
        if self._against:
            return "document", f"A document: {self._against}."
        if self.records < 2:
            return (
                "document",
                f"A document: a table needs two records, and here {'is one' if self.records else 'are none'}.",
            )
        if not self._columns:
            return "document", "A document: the records are empty."
        filled = self._cells / (self.records * len(self._columns))
        if filled < LEAST_FILLED:
            return "document", (
                f"A document: the {self.records:,} records share too few keys; of their {len(self._columns):,} columns "
                f"{filled:.0%} would be filled."
            )
        return "table", (
            f"A table: {self.records:,} flat records share {len(self._columns):,} columns, {filled:.0%} filled."
        )


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "an array"
        case _:
            return "an object"


def _named(key: str) -> str:
    """A key as it may stand in a sentence."""
    return f'"{key}"' if _WORD.fullmatch(key) else "a key"
