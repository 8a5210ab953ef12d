"""Facts: what files say of themselves, as strict JSON, and what happens with those that lie."""

import io
import json
import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from allocator.domain.payload import check_payload
from allocator.ingest import Identity, Kind, Unreadable, identify
from allocator.ingest.facts import documents as documents_module
from allocator.ingest.facts import json_facts, media_facts, other_facts
from allocator.ingest.facts.bounds import MAX_TEXT, plain
from tests.ingest.samples import SAMPLE_DATA, a_picture, a_sound, a_video, files_below

ROOT = Path(__file__).parents[2]


def of_media(tmp_path: Path, content: bytes) -> dict[str, Any]:
    """The facts of these bytes, which must be strict JSON."""
    path = tmp_path / "content"
    path.write_bytes(content)
    facts = media_facts(path, identify(path))
    check_payload(facts)
    json.dumps(facts, allow_nan=False)
    return facts


def of_json(*documents: Any) -> dict[str, Any]:
    """The facts of these documents, which must be strict JSON."""
    facts = json_facts(documents=documents)
    check_payload(facts)
    return facts


# Images


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM", "AVIF", "JPEG2000"])
def test_a_picture_tells_its_size(tmp_path: Path, format: str) -> None:
    """In every format that is taken for a picture."""
    size = (32, 32) if format == "ICO" else (40, 30)

    facts = of_media(tmp_path, a_picture(format, size))

    assert (facts["width"], facts["height"], facts["format"]) == (*size, format)
    assert facts["animated"] is False
    assert "taken_at" not in facts


def test_the_pictures_of_matplotlib_are_read() -> None:
    """Real ones."""
    facts = {
        path.name: media_facts(path, identify(path))
        for path in files_below(SAMPLE_DATA)
        if path.suffix in (".png", ".jpg")
    }

    assert len(facts) == 3
    assert (facts["grace_hopper.jpg"]["width"], facts["grace_hopper.jpg"]["height"]) == (512, 600)
    assert facts["grace_hopper.jpg"]["mode"] == "RGB"


@pytest.mark.parametrize(
    ("exif", "taken", "taken_at"),
    [
        ({36867: "2024:02:29 12:00:00"}, "2024-02-29T12:00:00", 1709208000.0),
        ({36867: "2024:02:29 12:00:00", 36881: "+02:00"}, "2024-02-29T12:00:00+02:00", 1709200800.0),
        ({36868: "1969:12:31 23:59:59"}, "1969-12-31T23:59:59", -1.0),
    ],
)
def test_a_picture_tells_when_it_was_taken(
    tmp_path: Path, exif: dict[int, object], taken: str, taken_at: float
) -> None:
    """In UTC where the camera knew the offset, else as if it were UTC."""
    facts = of_media(tmp_path, a_picture("JPEG", exif=exif))

    assert (facts["taken"], facts["taken_at"]) == (taken, taken_at)


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "2023:02:29 12:00:00", "yesterday", "", "\x00\x00"])
def test_a_date_that_is_none_is_left_out(tmp_path: Path, text: str) -> None:
    """Cameras without a clock write such."""
    facts = of_media(tmp_path, a_picture("JPEG", exif={36867: text}))

    assert "taken_at" not in facts


def test_exif_is_plain_json(tmp_path: Path) -> None:
    """Fractions are numbers, impossible ones are left out, bytes and long texts do not come through."""
    image = Image.new("RGB", (8, 8))
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Cam\x07era"
    exif[ExifTags.Base.ImageDescription] = "x" * 50_000
    fields = exif.get_ifd(ExifTags.IFD.Exif)
    fields[ExifTags.Base.FNumber] = 2.8
    fields[ExifTags.Base.ExposureTime] = (1, 0)
    fields[ExifTags.Base.MakerNote] = bytes(range(256))
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (52.0, 31.0, 12.0)})
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)

    facts = of_media(tmp_path, buffer.getvalue())["exif"]

    assert facts["Make"] == "Camera"
    assert len(facts["ImageDescription"]) == MAX_TEXT
    assert facts["FNumber"] == pytest.approx(2.8)
    assert "MakerNote" not in facts
    assert facts["GPSInfo"] == {"GPSLatitudeRef": "N", "GPSLatitude": [52.0, 31.0, 12.0]}


def a_bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is this large."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b""), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    """Also between Pillow's warning and its error."""
    with pytest.raises(Unreadable, match="pixels"):
        of_media(tmp_path, a_bomb(*size))


def test_broken_media_say_what_is_wrong(tmp_path: Path) -> None:
    """Every cut of a picture, a sound and a video is read or refused in one sentence, and nothing else happens."""
    reasons = set()
    for whole in (a_picture("PNG"), a_picture("JPEG", exif={36867: "2024:02:29 12:00:00"}), a_sound(0.01), a_video()):
        for length in range(12, len(whole), 37):
            path = tmp_path / "cut"
            path.write_bytes(whole[:length])
            try:
                check_payload(media_facts(path, identify(path)))
            except Unreadable as error:
                reasons.add(error.reason)

    assert reasons
    assert all(reason.startswith("This is no ") and reason.endswith(".") and "\n" not in reason for reason in reasons)


def test_noise_inside_of_media_is_read_or_refused(tmp_path: Path) -> None:
    """Changed bytes anywhere, with a seed, in each format."""
    chance = random.Random(11)
    wholes = [a_picture(format) for format in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "ICO")] + [
        a_sound(0.01),
        a_video(),
    ]
    path = tmp_path / "noise"

    for whole in wholes:
        identity = Identity(Kind.MEDIA, of_type(tmp_path, whole))
        for _ in range(40):
            content = bytearray(whole)
            for _ in range(chance.randrange(1, 20)):
                content[chance.randrange(4, len(content))] = chance.randrange(256)
            path.write_bytes(content)
            try:
                check_payload(media_facts(path, identity))
            except Unreadable:
                continue


def of_type(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "typed").write_bytes(content)
    return identify(tmp_path / "typed").type


# Audio and video


def test_a_sound_tells_its_length(tmp_path: Path) -> None:
    """Container, codec, seconds, channels."""
    facts = of_media(tmp_path, a_sound(1.5))

    assert (facts["container"], facts["codec"], facts["duration_s"]) == ("Wave", "PCM", 1.5)
    (track,) = facts["tracks"]
    assert (track["kind"], track["channels"], track["samples_per_s"]) == ("audio", 2, 8000)
    assert "width" not in facts


def test_a_video_tells_its_length_and_size(tmp_path: Path) -> None:
    """And when it was made."""
    facts = of_media(tmp_path, a_video())

    assert (facts["container"], facts["codec"], facts["duration_s"]) == ("MPEG-4", "MPEG-4 Visual", 2.0)
    assert (facts["width"], facts["height"]) == (320, 240)
    assert facts["taken_at"] == 1704067200.0


def test_media_of_nothing_are_unreadable(tmp_path: Path) -> None:
    """A good beginning, and no track."""
    with pytest.raises(Unreadable, match=r"no audio/wav that can be read"):
        of_media(tmp_path, b"RIFF\x10\x00\x00\x00WAVE")


# JSON


def test_flat_objects_with_shared_keys_suit_a_table() -> None:
    """As documents, and as items of one; numbers of both sorts and null share a column."""
    rows = [{"id": 1, "price": 2}, {"id": 2, "price": 2.5}, {"id": 3, "price": None}]

    apart, together = of_json(*rows), of_json(rows)

    assert (apart["suits"], apart["documents"], apart["records"]) == ("table", 3, 3)
    assert (together["suits"], together["documents"], together["records"]) == ("table", 1, 3)
    assert apart["reason"] == "A table: 3 flat records share 2 columns, 100% filled."
    assert apart["schema"]["properties"]["price"]["type"] == ["null", "number"]


@pytest.mark.parametrize(
    ("documents", "because"),
    [
        ([{"a": 1}], "two records"),
        ([[]], "two records"),
        ([[1, 2]], "record 1 is a number"),
        ([{"a": 1}, [[1]]], "record 2 is an array"),
        ([{"a": {"b": 1}}, {"a": {"b": 2}}], '"a" of record 1 is an object'),
        ([{"a": []}, {"a": []}], '"a" of record 1 is an array'),
        ([{"a": 1}, {"a": "x"}], '"a" is a number in one record and text in record 2'),
        ([{"a": 1}, {"a": True}], "a number in one record and true or false"),
        ([{"a": 1}, {"b": 1}, {"c": 1}], "share too few keys"),
        ([{}, {}], "empty"),
        ([{f"k{n}": 1 for n in range(1001)}] * 2, "1,000 different keys"),
    ],
)
def test_all_else_suits_a_document_and_says_why(documents: list[Any], because: str) -> None:
    """The first reason, as a sentence."""
    facts = of_json(*documents)

    assert facts["suits"] == "document"
    assert because in facts["reason"]


def test_half_filled_is_enough_and_less_is_not() -> None:
    """The bound itself is a table."""
    assert of_json({"a": 1}, {"b": 1})["suits"] == "table"
    assert of_json({"a": 1}, {"b": 1}, {"c": 1})["suits"] == "document"


def test_files_of_json_and_of_lines_are_read(tmp_path: Path) -> None:
    """With a mark at the beginning, with empty lines, with numbers of any size."""
    one, lines, large = (tmp_path / name for name in ("one", "lines", "large"))
    one.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    lines.write_bytes(b'{"a": 2}\n\n{"a": 3}\r\n')
    large.write_bytes(b"[1e999, 123456789012345678901234567890]")

    assert json_facts([one])["documents"] == 1
    assert json_facts([lines, one])["documents"] == 3
    assert json_facts([large])["schema"]["items"] == {"type": "number"}


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[NaN]", "no JSON"),
        (b'["\xff"]', "no JSON"),
        (b'{"a": 1}\n{"a": }\n', "line 2"),
        (b"[" * 100_000, "nested deeper"),
        (b"[" * 100_000 + b"]" * 100_000, "nested deeper"),
        (b"[" * 300 + b"]" * 300, "nested deeper"),
        (b"[1]\n" + b"[" * 300 + b"]" * 300, "nested deeper"),
    ],
)
def test_what_is_no_json_says_so(tmp_path: Path, content: bytes, because: str) -> None:
    """And JSON that is nested too deep."""
    path = tmp_path / "content"
    path.write_bytes(content)

    with pytest.raises(Unreadable, match=because):
        json_facts([path])


def test_too_much_json_is_not_parsed_and_says_so(tmp_path: Path) -> None:
    """All files of an upload together."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"[]")
        os.truncate(tmp_path / name, 40 * 1024 * 1024)

    facts = json_facts([tmp_path / "a", tmp_path / "b"])

    check_payload(facts)
    assert (facts["parsed"], facts["schema"], facts["suits"]) == (False, None, None)
    assert "83,886,080 bytes" in facts["reason"]


def test_a_schema_larger_than_its_bound_is_left_out() -> None:
    """Objects used as maps have a property for every key, which is data and no schema."""
    facts = of_json({f"key {n}": n for n in range(20_000)})

    assert facts["schema"] is None
    assert "its keys are data" in facts["schema_note"]


def test_of_very_many_keys_no_schema_is_inferred() -> None:
    """Inferring it takes memory for each key, for what is then left out as too large."""
    facts = of_json([{f"{row} {column}": 1 for column in range(10)} for row in range(2_001)])

    assert (facts["records"], facts["schema"]) == (2_001, None)
    assert "more than 20,000 keys" in facts["schema_note"]


def test_a_number_of_very_many_digits_is_told(tmp_path: Path) -> None:
    """It is JSON; and no reader here takes it."""
    (tmp_path / "x").write_text('{"a": %s}' % ("9" * 4301))

    with pytest.raises(Unreadable, match=r"This JSON has an integer of more than 4,300 digits"):
        json_facts([tmp_path / "x"])


@pytest.mark.parametrize("count", [3, 4, 20])
def test_the_beginning_of_a_photo_is_told_as_that(tmp_path: Path, count: int) -> None:
    """In words for people."""
    path = tmp_path / "x"
    path.write_bytes(a_picture("JPEG")[:count])

    with pytest.raises(Unreadable) as refused:
        media_facts(path, identify(path))

    assert "MPO" not in str(refused.value)


def test_documents_beyond_the_bound_are_not_in_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted, and the note says how many were left out."""
    monkeypatch.setattr(documents_module, "MAX_VALUES", 10)

    facts = of_json([1, 2, 3], ["x"] * 50, [4])

    assert facts["documents"] == 3
    assert facts["schema"]["items"] == {"type": "integer"}
    assert facts["schema_note"] == "without 1 documents: more than 10 values"


# Others


@pytest.mark.parametrize(
    ("content", "encoding", "lines"),
    [
        (b"", "binary", None),
        (b"one\ntwo\n", "ascii", 2),
        (b"one\ntwo", "ascii", 2),
        ("ä\n".encode(), "utf-8", 1),
        ("ä\n".encode("utf-16"), "utf-16", None),
        (b"\xe4hnlich wie Latein\n", "unknown-8bit", 1),
        (b"\x00\x01", "binary", None),
        (b"x" * 65_535 + "ä".encode() + b"\n", "utf-8", 1),
    ],
)
def test_other_files_tell_what_text_they_are(tmp_path: Path, content: bytes, encoding: str, lines: int | None) -> None:
    """Also if a character is cut in two by the end of what is looked at."""
    path = tmp_path / "content"
    path.write_bytes(content)

    facts = other_facts(path, "ab" * 32)

    assert facts == {"size_bytes": len(content), "sha256": "ab" * 32, "encoding": encoding, "lines": lines}


def test_foreign_values_become_plain() -> None:
    """No NaN, no bytes, no surrogates, no end of nesting."""
    loop: list[Any] = []
    loop.append(loop)

    value = plain({"nan": float("nan"), 1: b"\xff", "half": "\ud800x", "loop": loop, "set": {1}, "big": 10**400})

    check_payload(value)
    assert (value["nan"], value["1"], value["half"]) == (None, None, "x")


BOUND = """
import sys
from allocator.ingest import Unreadable
from allocator.ingest.facts import bound_memory, json_facts
bound_memory(1 << 30)
try:
    bytearray(2 << 30)
except MemoryError:
    print("refused")
try:
    json_facts([sys.argv[1]])
except Unreadable as error:
    print(error.reason)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces a limit of address space")
def test_a_process_can_bound_its_memory(tmp_path: Path) -> None:
    """What needs more is refused, an evil document too, and the process goes on."""
    evil = tmp_path / "evil.json"
    evil.write_bytes(b"[" + b"{}," * 20_000_000 + b"{}]")

    done = subprocess.run(
        [sys.executable, "-c", BOUND, str(evil)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert done.stdout.splitlines() == ["refused", "This JSON needs more memory than a processor is given."]
