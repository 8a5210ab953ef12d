"""
What a file is, by its content and never by its name.

Three looks, and the first that knows wins:
1. Signatures of images, audio and video that the media processor can read. They are our own and few, because a wrong
   one makes a dead letter: each asks for at least three bytes or for a structure.
2. JSON and text. JSON is what a strict parser accepts as a whole: a document that is an object or an array, or two and
   more lines of such documents (NDJSON). A file that is too large to be parsed is judged by its first 64 KiB.
3. Other binary formats: some common ones here, the long tail from puremagic's table (pure Python, MIT, no service
   and no C library). The other table of this sort, filetype, has had no release since 2022.

A name decides only between kinds of text that no content tells apart, such as text/csv and text/plain.
"""

import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import msgspec
import puremagic

HEAD_BYTES = 64 * 1024
"""Read of every file; more only of what begins like JSON."""

MAX_JSON_BYTES = 64 * 1024 * 1024
"""Largest file that is parsed to learn whether it is JSON."""


class Kind(StrEnum):
    """Which processor takes the file."""

    MEDIA = "media"
    JSON = "json"
    OTHER = "other"


@dataclass(frozen=True)
class Identity:
    """
    What a file was found to be.

    Args:
        kind: Which processor takes it.
        type: Its MIME type, in lower case, without parameters; application/octet-stream if nobody knows it.
    """

    kind: Kind
    type: str


EMPTY = Identity(Kind.OTHER, "application/x-empty")
UNKNOWN = Identity(Kind.OTHER, "application/octet-stream")

JSON_TYPE = "application/json"
NDJSON_TYPE = "application/x-ndjson"


def identify(path: Path | str, name: str = "") -> Identity:
    """
    Say what a file is. No content makes it fail: what is cut off, mixed or made up is the nearest thing that it is.

    Args:
        path: The file.
        name: As its owner called it; it breaks ties between kinds of text, and nothing else.
    Raises:
        OSError: It cannot be opened or read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(HEAD_BYTES)
        return identify_head(head, size, name, lambda: file.read(MAX_JSON_BYTES - len(head)))


def identify_head(
    head: bytes, size: int, name: str, read_rest: Callable[[], bytes], most_parsed: int = MAX_JSON_BYTES
) -> Identity:
    """
    As `identify`, of a file whose beginning is at hand.

    Args:
        head: Its first HEAD_BYTES, or all of it if it has fewer.
        size: Of the whole file, in bytes.
        read_rest: Gives what follows the head; asked only for what begins like JSON and is not too large to be parsed.
        most_parsed: Size of the largest file that is parsed to learn whether it is JSON.
    """
    if not head:
        return EMPTY
    if media := _media_type(head, size):
        return Identity(Kind.MEDIA, media)
    is_whole = len(head) >= size
    if may_be_json(head, is_whole):
        # What is too large to be parsed is taken for what it begins like.
        data = head
        if not is_whole and size <= most_parsed:
            data += read_rest()
            is_whole = True
        if found := _json_type(data, is_whole):
            return Identity(Kind.JSON, found)
    if text_type := _text_type(head, is_whole, name):
        return Identity(Kind.OTHER, text_type)
    return Identity(Kind.OTHER, _binary_type(head))


# Media

_PREFIXES: list[tuple[bytes, str]] = [
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"8BPS\x00\x01", "image/vnd.adobe.photoshop"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"fLaC\x00\x00\x00\x22", "audio/flac"),
    (b"fLaC\x80\x00\x00\x22", "audio/flac"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"#!AMR\n", "audio/amr"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c", "video/x-ms-asf"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
]

_RIFF = {b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo", b"WEBP": "image/webp"}
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_BMP_HEADER_BYTES = {12, 40, 52, 56, 64, 108, 124}
_BETWEEN = rb"\s+(?:#[^\n]*\n\s*)*"
# Type, width, height, and of all but bitmaps the greatest value.
_PORTABLE_MAP = re.compile(
    rb"P(?:([14])"
    + 2 * (_BETWEEN + rb"(\d{1,6})")
    + rb"|([2356])"
    + 2 * (_BETWEEN + rb"(\d{1,6})")
    + _BETWEEN
    + rb"\d{1,5})\s"
)
_PLAIN_VALUES = re.compile(rb"[\d\s]*(?:#[^\n]*(?:\n[\d\s]*|\Z))*")
_AIFF_CHUNKS = frozenset(
    (
        b"COMM",
        b"SSND",
        b"FVER",
        b"MARK",
        b"INST",
        b"COMT",
        b"NAME",
        b"AUTH",
        b"(c) ",
        b"ANNO",
        b"ID3 ",
        b"CHAN",
        b"APPL",
    )
)
_MAX_BRANDS_BYTES = 64 * 1024
_MP3_KBIT = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_MP3_LOW_KBIT = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_MP3_HZ = (44100, 48000, 32000, 0)


def _media_type(head: bytes, size: int) -> str:
    for prefix, media_type in _PREFIXES:
        if head.startswith(prefix):
            return media_type
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "")
    # What is also a word takes more than the word.
    if head[4:8] == b"ftyp" and 8 <= int.from_bytes(head[:4]) <= _MAX_BRANDS_BYTES:
        return _BRANDS.get(head[8:12], "video/3gpp" if head[8:11] == b"3gp" else "video/mp4")
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska" if b"matroska" in head[:64] else ""
    if head[:5] == b"OggS\x00":
        return "video/ogg" if b"\x80theora" in head[:512] else "audio/ogg"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC") and head[12:16] in _AIFF_CHUNKS:
        return "audio/aiff"
    if head[:3] == b"ID3" and len(head) >= 10 and head[3] < 5 and max(head[6:10]) < 0x80:
        return "audio/mpeg"
    if head[:2] == b"BM" and len(head) >= 18 and struct.unpack("<I", head[14:18])[0] in _BMP_HEADER_BYTES:
        return "image/bmp"
    if head[:4] == b"\x00\x00\x01\x00" and _is_icon(head):
        return "image/x-icon"
    if _is_portable_map(head, size):
        return "image/x-portable-anymap"
    if head[:1] == b"\x47" and len(head) >= 188 * 4 and set(head[: 188 * 4 : 188]) == {0x47}:
        return "video/mp2t"
    return "audio/mpeg" if _is_mp3(head) else ""


def _is_portable_map(head: bytes, size: int) -> bool:
    """Whether what follows its header can be a picture: P1, 34 and 120 may well be the first columns of a table."""
    found = _PORTABLE_MAP.match(head[:1024])
    if found is None:
        return False
    form, width, height = (found[group] or found[group + 3] for group in (1, 2, 3))
    if form in b"123":
        return _PLAIN_VALUES.fullmatch(head, found.end()) is not None
    row_bytes = (int(width) + 7) // 8 if form == b"4" else int(width) * (3 if form == b"6" else 1)
    return size >= found.end() + row_bytes * int(height) or not _is_text(head, is_whole=False)


def _is_icon(head: bytes) -> bool:
    """Whether its first picture lies behind the table of all pictures, as in an icon."""
    if len(head) < 22:
        return False
    (count,) = struct.unpack("<H", head[4:6])
    size, offset = struct.unpack("<II", head[14:22])
    return 0 < count <= 256 and head[9] == 0 and size > 0 and offset >= 6 + 16 * count


def _is_mp3(head: bytes) -> bool:
    """Whether a frame of MPEG audio, layer 3, is followed by another one: two bytes alone are too little."""
    length = _mp3_frame_bytes(head)
    return length > 0 and _mp3_frame_bytes(head[length:]) > 0


def _mp3_frame_bytes(data: bytes) -> int:
    """Length of the frame at the beginning, 0 if there is none."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE6 != 0xE2:
        return 0
    version = (data[1] >> 3) & 3
    if version == 1:
        return 0
    is_first = version == 3
    kbit = (_MP3_KBIT if is_first else _MP3_LOW_KBIT)[data[2] >> 4]
    hz = _MP3_HZ[(data[2] >> 2) & 3] // {3: 1, 2: 2, 0: 4}[version]
    if not kbit or not hz:
        return 0
    return (144 if is_first else 72) * kbit * 1000 // hz + ((data[2] >> 1) & 1)


# JSON

_BOM = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n"
_STEP = re.compile(
    rb'[ \t\r\n]*(?:[\[\]{},:]|"(?:[^"\\\x00-\x1f]|\\["\\/bfnrtu])*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)'
)
_MAX_STEPS = 64
_CHECK: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)


def may_be_json(head: bytes, is_whole: bool) -> bool:
    """Whether the first words of a file are words of JSON, so that it is worth while to parse the rest."""
    body = head.removeprefix(_BOM).lstrip(_WHITE)
    if body[:1] not in (b"{", b"["):
        return False
    at = 0
    for _ in range(_MAX_STEPS):
        step = _STEP.match(body, at)
        if step is None:
            rest = body[at:].lstrip(_WHITE)
            # The head may end inside of a long string or number.
            return not rest or (not is_whole and (rest[:1] == b'"' or len(rest) < 64) and rest != body)
        at = step.end()
    return True


def _json_type(data: bytes, is_whole: bool) -> str:
    """application/json, application/x-ndjson, or nothing. Of a part, the first lines decide."""
    body = data.removeprefix(_BOM)
    if is_whole and _is_document(body):
        return JSON_TYPE
    lines = 0
    start = 0
    while start < len(body):
        end = body.find(b"\n", start)
        if end < 0 and not is_whole:
            break
        line = body[start : end if end >= 0 else len(body)].strip(_WHITE)
        start = len(body) if end < 0 else end + 1
        if not line:
            continue
        if not _is_document(line):
            # A single document over many lines, of which the end was not read.
            return JSON_TYPE if not is_whole and lines == 0 and _is_text(data, is_whole) else ""
        lines += 1
    if is_whole:
        return NDJSON_TYPE if lines >= 2 else ""
    return NDJSON_TYPE if lines >= 2 else JSON_TYPE if _is_text(data, is_whole) else ""


def _is_document(data: bytes) -> bool:
    """Whether it is one object or array of strict JSON. Builds nothing, so it costs no memory."""
    if data.lstrip(_WHITE)[:1] not in (b"{", b"["):
        return False
    try:
        _CHECK.decode(data)
        # The parser looks for the ends of strings, not into them.
        data.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    except RecursionError:
        # So deep that only JSON, or an attack, has it; whoever reads it says why it does not.
        return True
    return True


# Text

_CONTROL = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")
_TIES = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".rst": "text/x-rst",
    ".py": "text/x-python",
    ".css": "text/css",
    ".js": "text/javascript",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".xml": "application/xml",
    ".c": "text/x-c",
    ".h": "text/x-c",
}
_TEXT_STARTS: list[tuple[bytes, str]] = [
    (b"{\\rtf", "application/rtf"),
    (b"%!ps", "application/postscript"),
    (b"begin:vcard", "text/vcard"),
    (b"begin:vcalendar", "text/calendar"),
    (b"-----begin ", "application/x-pem-file"),
]
_HTML = re.compile(rb"<(?:!doctype html|html|head|body|script)[\s>]")
_MARKUP_LEAD = re.compile(rb"(?:\s|<\?[^>]{0,512}\?>|<!--.{0,4096}?-->|<!doctype[^>\[]{0,512}>)*", re.DOTALL)
_MARKS = [
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
]


def text_encoding(head: bytes, is_whole: bool) -> str:
    """
    Which text a file holds, if any.

    One of "ascii", "utf-8", "utf-16", "utf-32", "unknown-8bit" (one of the old encodings), "binary".

    Args:
        head: The first bytes of a file.
        is_whole: These are all of them; otherwise a character may be cut off at the end.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding if _decodes(head, encoding, is_whole) else "binary"
    if _CONTROL.search(head):
        return "binary"
    if head.isascii():
        return "ascii"
    if _decodes(head, "utf-8", is_whole):
        return "utf-8"
    letters = sum(head.count(bytes((byte,))) for byte in range(0x20, 0x7F)) + sum(
        map(head.count, (b"\n", b"\r", b"\t"))
    )
    return "unknown-8bit" if letters >= 0.7 * len(head) else "binary"


def _decodes(head: bytes, encoding: str, is_whole: bool) -> bool:
    # A character has at most four bytes; the last one may be cut off.
    for cut in range(1 if is_whole else 4):
        try:
            text = head[: len(head) - cut].decode(encoding)
        except UnicodeDecodeError:
            continue
        return "\x00" not in text
    return False


def _is_text(head: bytes, is_whole: bool) -> bool:
    return text_encoding(head, is_whole) != "binary"


def _text_type(head: bytes, is_whole: bool, name: str) -> str:
    if head.startswith(b"%PDF-"):
        return "application/pdf"
    if not _is_text(head, is_whole):
        return ""
    start = head.removeprefix(_BOM).lstrip()[:8192].lower()
    for prefix, text_type in _TEXT_STARTS:
        if start.startswith(prefix):
            return text_type
    if start[:1] == b"<":
        if _HTML.match(start):
            return "text/html"
        lead = _MARKUP_LEAD.match(start)
        body = start[lead.end() if lead else 0 :]
        if _HTML.match(body):
            return "text/html"
        if body.startswith(b"<svg"):
            return "image/svg+xml"
        if start.startswith(b"<?xml"):
            return "application/xml"
    by_itself = "text/x-script" if start.startswith(b"#!") else "text/plain"
    return _TIES.get(os.path.splitext(name)[1].lower(), by_itself)


# Other binary formats

_ZIP_ENTRIES = [
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
]
_BINARY_PREFIXES: list[tuple[bytes, str]] = [
    (b"\x7fELF", "application/x-elf"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"\x93NUMPY", "application/x-npy"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
    (b"\x00asm", "application/wasm"),
    (b"PK\x05\x06", "application/zip"),
]
_MIME = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
_OFFICE = re.compile(rb"[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*")
_LEAST_MAGIC_BYTES = 4


def _binary_type(head: bytes) -> str:
    if head.startswith(b"PK\x03\x04"):
        return _zip_type(head)
    for prefix, binary_type in _BINARY_PREFIXES:
        if head.startswith(prefix):
            return binary_type
    if head[257:262] == b"ustar":
        return "application/x-tar"
    return _tail_type(head)


def _zip_type(head: bytes) -> str:
    """Of the formats that are ZIP files, those that say so in their first entries."""
    if head[30:38] == b"mimetype":
        # OpenDocument and EPUB: the first entry, uncompressed, holds the type.
        found = _OFFICE.match(head, 38)
        if found and (size := struct.unpack("<I", head[22:26])[0]) and size <= len(found[0]):
            return found[0][:size].decode()
    if b"[Content_Types].xml" in head:
        for folder, office_type in _ZIP_ENTRIES:
            if folder in head:
                return office_type
    return "application/zip"


def _tail_type(head: bytes) -> str:
    """What puremagic's table says; of several answers the one with the longest signature, and only at the beginning."""
    for signature, found in _tail().get(head[:_LEAST_MAGIC_BYTES], ()):
        if head.startswith(signature):
            return found
    return UNKNOWN.type


@cache
def _tail() -> dict[bytes, list[tuple[bytes, str]]]:
    """By their first bytes, the longest first: puremagic itself compares with every one of its 1,400 signatures."""
    found: dict[bytes, list[tuple[bytes, str]]] = {}
    for row in sorted(puremagic.magic_header_array, key=lambda row: len(row.byte_match), reverse=True):
        mime_type = row.mime_type.lower()
        if row.offset == 0 and len(row.byte_match) >= _LEAST_MAGIC_BYTES and _MIME.fullmatch(mime_type):
            found.setdefault(row.byte_match[:_LEAST_MAGIC_BYTES], []).append((row.byte_match, mime_type))
    return found
