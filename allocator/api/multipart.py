"""
Forms of files, read as they come in: every file goes straight into the object store, and none is held in memory.

The parser of python-multipart tells what it finds in the bytes; `FormReader` puts it where it belongs.
"""

import re
from dataclasses import dataclass, field
from typing import Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from allocator.api.problems import Problem
from allocator.api.settings import ApiSettings
from allocator.ingest import Incoming, ObjectStore
from allocator.ingest.intake import Brought

FILE_FIELDS = frozenset(("files[]", "files", "file"))
TEXT_FIELDS = frozenset(("payload", "owner", "comments", "idempotency_key"))
UNNAMED = "unnamed"

MAX_PATH_CHARS = 4096


@dataclass
class Form:
    """What was found: files, which are in the object store, and texts by their field."""

    files: list[Brought] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """A field as text; None where it is missing or empty. Raises Problem where it is none."""
        try:
            return self.texts.get(name, b"").decode() or None
        except UnicodeDecodeError as error:
            raise Problem(422, f"{name}: is no UTF-8: {error.reason} at byte {error.start}") from None


class FormReader:
    """
    Reads one form; a context manager that removes what was not committed. Calls come one after the other, from any
    thread, and block while they write.

    Args:
        content_type: Of the request.
        objects: Takes the files.
        limits: What a request may have.
    Raises:
        Problem: It is no multipart form.
    """

    def __init__(self, content_type: str, objects: ObjectStore, limits: ApiSettings) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise Problem(415, f"the body must be multipart/form-data, not {content_type[:100] or 'untold'!r}")
        if not options.get(b"boundary"):
            raise Problem(400, "the Content-Type multipart/form-data has no boundary")
        self._objects = objects
        self._limits = limits
        self._form = Form()
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._incoming: Incoming | None = None
        self._name = ""
        self._text: bytearray | None = None
        self._ended = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._part_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise Problem(400, f"the form cannot be read: {error}") from None

    def feed(self, data: bytes) -> None:
        """
        Take the next bytes of the body.

        Raises:
            Problem: The form is broken, or over a limit.
            TooLarge, OutOfSpace, ObjectStoreUnavailable: As the object store says.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Problem(400, f"the form cannot be read: {error}") from None

    def finish(self) -> Form:
        """The form, after the last byte. Raises Problem where its end is missing."""
        if not self._ended:
            raise Problem(400, "the form ends in the middle: its last boundary is missing")
        return self._form

    @property
    def is_writing(self) -> bool:
        """Whether a file was begun, and is not committed: `close` removes it."""
        return self._incoming is not None

    def close(self) -> None:
        """Remove the file that was being written. Idempotent."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # What the parser finds

    def _begin_part(self) -> None:
        self._disposition = b""
        self._header = self._value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        field_name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options or field_name in FILE_FIELDS:
            if field_name not in FILE_FIELDS:
                raise Problem(422, f"{field_name!a}: files belong into the field files[]")
            self._begin_file(options.get(b"filename", b""))
        elif field_name in TEXT_FIELDS:
            if field_name in self._form.texts:
                raise Problem(422, f"{field_name}: was given twice")
            self._name, self._text = field_name, bytearray()
        else:
            known = ", ".join(sorted(TEXT_FIELDS))
            raise Problem(422, f"{field_name!a}: there is no such field; there are files[], {known}")

    def _begin_file(self, raw_name: bytes) -> None:
        limits = self._limits
        if len(self._form.files) >= limits.max_files:
            raise Problem(413, f"more than {limits.max_files} files in one request", limit=limits.max_files)
        # What is no UTF-8 gets a name that is.
        name = raw_name.decode("utf-8", "replace") or UNNAMED
        # A name may say in which folder it was: of file systems, too, each part has one limit, and all have another.
        part = max(re.split(r"[/\\]", name), key=len)
        for text, limit in ((part, limits.max_name_chars), (name, MAX_PATH_CHARS)):
            if len(text) > limit:
                said = f"a file's name of {len(text):,} characters is longer than {limit:,}: {text[:40]!a}…"
                raise Problem(413, said, limit=limit)
        if "\0" in name:
            raise Problem(422, f"a file's name has a NUL: {name!a}")
        self._name = name
        self._incoming = self._objects.incoming(limits.max_file_bytes)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._incoming is not None:
            self._incoming.write(memoryview(data)[start:end])
        elif self._text is not None:
            if len(self._text) + end - start > self._limits.max_field_bytes:
                limit = self._limits.max_field_bytes
                raise Problem(413, f"{self._name}: more than {limit:,} bytes; send it as a file", limit=limit)
            self._text += data[start:end]

    def _end_part(self) -> None:
        if self._incoming is not None:
            brought = Brought.of(self._name, self._incoming)
            self._incoming = None
            self._form.files.append(brought)
        elif self._text is not None:
            self._form.texts[self._name] = bytes(self._text)
            self._text = None

    def _end(self) -> None:
        self._ended = True
