"""Identification: by content, whatever the name says, and without ever failing."""

import io
import json
import os
import random
import sqlite3
import sysconfig
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import puremagic
import pytest

from allocator.ingest import Identity, Kind, identify
from allocator.ingest.identify import _MIME, HEAD_BYTES, MAX_JSON_BYTES, _tail_type
from tests.ingest.samples import SAMPLE_DATA, a_picture, a_sound, a_video, files_below


def of(tmp_path: Path, content: bytes, name: str = "") -> Identity:
    """What these bytes are."""
    path = tmp_path / "content"
    path.write_bytes(content)
    return identify(path, name)


def a_zip(**entries: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def a_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    return buffer.getvalue()


def test_the_samples_of_matplotlib_are_what_they_are() -> None:
    """Pictures, tables, an old XML dialect, archives and bare numbers."""
    found = {path.name: identify(path, path.name) for path in files_below(SAMPLE_DATA)}

    assert found["grace_hopper.jpg"] == Identity(Kind.MEDIA, "image/jpeg")
    assert found["logo2.png"] == Identity(Kind.MEDIA, "image/png")
    assert found["Stocks.csv"] == Identity(Kind.OTHER, "text/csv")
    assert found["README.txt"] == Identity(Kind.OTHER, "text/plain")
    assert found["embedding_in_wx3.xrc"] == Identity(Kind.OTHER, "application/xml")
    assert found["goog.npz"] == Identity(Kind.OTHER, "application/zip")
    assert found["s1045.ima.gz"] == Identity(Kind.OTHER, "application/gzip")
    assert found["eeg.dat"] == Identity(Kind.OTHER, "application/octet-stream")


def test_the_standard_library_holds_no_surprises() -> None:
    """Of some thousand files of source code, none is media, and hardly one is anything but text."""
    root = Path(sysconfig.get_paths()["stdlib"])
    sources = [
        path
        for folder in ("asyncio", "email", "json", "idlelib", "unittest")
        for path in root.glob(f"{folder}/**/*.py")
    ]

    kinds = Counter(identify(path).type for path in sources)

    assert len(sources) > 100
    assert set(kinds) <= {"text/plain", "text/x-script", "application/x-empty"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        *[
            pytest.param(a_picture(format), Identity(Kind.MEDIA, type), id=format)
            for format, type in (
                ("PNG", "image/png"),
                ("JPEG", "image/jpeg"),
                ("GIF", "image/gif"),
                ("WEBP", "image/webp"),
                ("TIFF", "image/tiff"),
                ("BMP", "image/bmp"),
                ("ICO", "image/x-icon"),
                ("PPM", "image/x-portable-anymap"),
                ("AVIF", "image/avif"),
                ("JPEG2000", "image/jp2"),
            )
        ],
        pytest.param(a_sound(), Identity(Kind.MEDIA, "audio/wav"), id="wav"),
        pytest.param(a_video(), Identity(Kind.MEDIA, "video/mp4"), id="mp4"),
        pytest.param(b"ID3\x03\x00\x00\x00\x00\x00\x0f" + bytes(20), Identity(Kind.MEDIA, "audio/mpeg"), id="id3"),
        pytest.param((b"\xff\xfb\x90\x00" + bytes(413)) * 3, Identity(Kind.MEDIA, "audio/mpeg"), id="mp3"),
        pytest.param(b"OggS" + bytes(24) + b"\x01vorbis", Identity(Kind.MEDIA, "audio/ogg"), id="ogg"),
        pytest.param(b'{"a": [1, null]}', Identity(Kind.JSON, "application/json"), id="object"),
        pytest.param(b"\xef\xbb\xbf [ ]\n", Identity(Kind.JSON, "application/json"), id="array with a mark"),
        pytest.param(b'{"a":1}\n\n{"a":2}\r\n', Identity(Kind.JSON, "application/x-ndjson"), id="ndjson"),
        pytest.param(b"<!-- hi -->\n<svg xmlns='x'/>", Identity(Kind.OTHER, "image/svg+xml"), id="svg"),
        pytest.param(b"<!DOCTYPE html>\n<p>", Identity(Kind.OTHER, "text/html"), id="html"),
        pytest.param(b"%PDF-1.7\n%\xe2\xe3", Identity(Kind.OTHER, "application/pdf"), id="pdf"),
        pytest.param(b"#!/bin/sh\n", Identity(Kind.OTHER, "text/x-script"), id="script"),
        pytest.param("Grüße aus Köln\n".encode("latin-1"), Identity(Kind.OTHER, "text/plain"), id="latin-1"),
        pytest.param("grüße".encode("utf-16"), Identity(Kind.OTHER, "text/plain"), id="utf-16"),
        pytest.param(a_tar(), Identity(Kind.OTHER, "application/x-tar"), id="tar"),
        pytest.param(
            a_zip(mimetype="application/vnd.oasis.opendocument.text", content="x"),
            Identity(Kind.OTHER, "application/vnd.oasis.opendocument.text"),
            id="odt",
        ),
        pytest.param(
            a_zip(**{"[Content_Types].xml": "<x/>", "xl__workbook.xml": "<x/>"}),
            Identity(Kind.OTHER, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
            id="xlsx",
        ),
        pytest.param(b"Rar!\x1a\x07\x00" + bytes(50), Identity(Kind.OTHER, "application/vnd.rar"), id="rar"),
        pytest.param(b"wOF2" + bytes(50), Identity(Kind.OTHER, "font/woff2"), id="one of the long tail"),
        pytest.param(b"", Identity(Kind.OTHER, "application/x-empty"), id="empty"),
        pytest.param(b"fLaC\x80\x00\x00\x22" + bytes(34), Identity(Kind.MEDIA, "audio/flac"), id="short flac"),
        pytest.param(b"P1\n# two\n2 1\n0 1\n", Identity(Kind.MEDIA, "image/x-portable-anymap"), id="plain bitmap"),
        pytest.param(b"P5 # eyes\n2 1 255\n..", Identity(Kind.MEDIA, "image/x-portable-anymap"), id="graymap"),
        pytest.param(b"P4 8 900\n\x00\x01", Identity(Kind.MEDIA, "image/x-portable-anymap"), id="bitmap, cut off"),
        *[
            pytest.param(text, Identity(Kind.OTHER, "text/plain"), id=text.decode())
            for text in (
                b"P1\t34\t120\t7.5\nP2\t41\t131\t8.25\n",
                b"P1 12 34 is my seat number",
                b"P5 100 200 shipments arrived",
                b"P6 100 200 300 boxes",
                b"the ftyp box",
                b"OggS is a magic",
                b"FORM 10 AIFF file",
            )
        ],
    ],
)
def test_content_decides(tmp_path: Path, content: bytes, expected: Identity) -> None:
    """The same with no name, with its own and with a wrong one."""
    found = {of(tmp_path, content, name) for name in ("", "x.exe", "x.json", "x.png")}

    assert found == {expected}


def test_the_long_tail_is_what_puremagic_says() -> None:
    """For files that begin with one of its own signatures; the longest one that has a media type decides."""
    expected = {}
    for row in [row for row in puremagic.magic_header_array if row.offset == 0][::5]:
        said = [match for match in puremagic.magic_string(row.byte_match) if match.offset == 0]
        said = [match for match in said if _MIME.fullmatch(match.mime_type.lower())]
        longest = max(said, key=lambda match: len(match.byte_match), default=None)
        if longest is not None and len(longest.byte_match) >= 4:
            expected[row.byte_match] = longest.mime_type.lower()

    found = {beginning: _tail_type(beginning + b"more") for beginning in expected}

    assert found == expected
    assert len(expected) > 100


def test_a_database_of_sqlite_is_known(tmp_path: Path) -> None:
    """A real one."""
    connection = sqlite3.connect(tmp_path / "x")
    connection.execute("CREATE TABLE t (n)")
    connection.close()

    assert identify(tmp_path / "x").type == "application/vnd.sqlite3"


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"123",
        b'"text"',
        b'{"a": 1',
        b"[1,]",
        b"[NaN]",
        b"{'a': 1}",
        b'{"a": "\xff"}',
        b"[section]\nkey = 1\n",
        b'{"a":1}\nnot json\n',
        b"{ this is prose }",
        b"{\\rtf1 hello}",
    ],
)
def test_what_is_not_strict_json_is_text(tmp_path: Path, content: bytes) -> None:
    """Bare values, broken documents, settings and prose, even if the name says JSON."""
    assert of(tmp_path, content, "x.json").kind == Kind.OTHER


def test_names_break_ties_between_texts_only(tmp_path: Path) -> None:
    """The suffix of a text is believed, that of anything else is not, and a page is none by its name."""
    types = {
        name: of(tmp_path, b"a,b\n1,2\n", name).type
        for name in ("x.csv", "X.CSV", "x.md", "x", "x.png", "x.html", ".csv")
    }
    binary = of(tmp_path, b"\x00\x01\x02\x03", "x.csv")

    assert types == {
        "x.csv": "text/csv",
        "X.CSV": "text/csv",
        "x.md": "text/markdown",
        "x": "text/plain",
        "x.png": "text/plain",
        "x.html": "text/plain",
        ".csv": "text/plain",
    }
    assert binary.type == "application/octet-stream"


def test_a_file_of_two_kinds_is_what_it_begins_as(tmp_path: Path) -> None:
    """A picture with an archive, a page or JSON behind it stays a picture."""
    for tail in (a_zip(x="x"), b"<script>alert(1)</script>", b'{"a": 1}'):
        assert of(tmp_path, a_picture("PNG") + tail).type == "image/png"
    assert of(tmp_path, b'{"a": 1}' + a_picture("PNG")).kind == Kind.OTHER


def test_no_cut_makes_it_fail(tmp_path: Path) -> None:
    """Every beginning of a file of each kind is something."""
    contents = [
        a_picture("JPEG"),
        a_picture("ICO"),
        a_sound(0.01),
        a_video(),
        b'{"a": [1, "\xc3\xa4"]}',
        a_zip(mimetype="a/b"),
    ]

    found = {of(tmp_path, content[:length]).kind for content in contents for length in range(min(len(content), 200))}

    assert found == {Kind.OTHER, Kind.MEDIA}


def test_no_noise_makes_it_fail(tmp_path: Path) -> None:
    """Random bytes, alone and behind the beginnings of known formats, and random words of JSON."""
    chance = random.Random(7)
    starts = [
        b"",
        b"RIFF",
        b"PK\x03\x04",
        b"\x00\x00\x01\x00",
        b"ID3",
        b"BM",
        b"\xff\xfb",
        b"[",
        b'{"',
        b"<",
        b"\xff\xfe",
    ]
    words = [b"{", b"}", b"[", b"]", b",", b":", b'"a"', b"1", b"\n", b"null", b" "]

    for _ in range(300):
        content = chance.choice(starts) + chance.randbytes(chance.randrange(300))
        assert of(tmp_path, content).type
        assert of(tmp_path, b"".join(chance.choices(words, k=20))).type


def test_json_that_is_too_deep_is_json(tmp_path: Path) -> None:
    """It is known by what it is; the processor says why it does not read it."""
    assert of(tmp_path, b"[" * 100_000 + b"]" * 100_000).kind == Kind.JSON


@pytest.mark.parametrize("size", [HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 5 * HEAD_BYTES])
def test_json_longer_than_the_head_is_parsed_to_its_end(tmp_path: Path, size: int) -> None:
    """Good to the last byte, or not JSON."""
    good = b'["' + b"x" * (size - 4) + b'"]'
    lines = b"".join(json.dumps({"n": n}).encode() + b"\n" for n in range(size // 8))

    assert of(tmp_path, good).type == "application/json"
    assert of(tmp_path, good[:-1] + b"x").type == "text/plain"
    assert of(tmp_path, lines).type == "application/x-ndjson"
    assert of(tmp_path, lines + b"x\n").type == "text/plain"


def test_a_huge_file_is_judged_by_its_head(tmp_path: Path) -> None:
    """Sparse files over the bound: JSON and lines of it by how they begin, and nothing is read beyond the head."""
    found = {}
    for name, head in {
        "json": b'{"rows": [\n' + b'{"a": 1},\n' * HEAD_BYTES,
        "lines": b'{"a": 1}\n' * HEAD_BYTES,
        "one string": b'["' + b"x" * HEAD_BYTES,
        "text": b"[not json]\n" * HEAD_BYTES,
        "binary": bytes(range(256)) * 1000,
    }.items():
        path = tmp_path / name
        path.write_bytes(head)
        os.truncate(path, MAX_JSON_BYTES + 1)
        found[name] = identify(path).type

    assert found == {
        "json": "application/json",
        "lines": "application/x-ndjson",
        "one string": "application/json",
        "text": "text/plain",
        "binary": "application/octet-stream",
    }


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """Content never fails, but a file system may."""
    with pytest.raises(FileNotFoundError):
        identify(tmp_path / "nothing")
