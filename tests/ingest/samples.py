"""Real and made files for the tests of what comes in."""

import io
import struct
import wave
from pathlib import Path

from matplotlib import cbook
from PIL import ExifTags, Image

from allocator.ingest import ObjectStore, Stored

SAMPLE_DATA = Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))).parent
"""Pictures, tables and binary files that come with matplotlib."""


def put(store: ObjectStore, content: bytes) -> Stored:
    """Store these bytes."""
    with store.incoming() as incoming:
        incoming.write(content)
        return incoming.commit()


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def a_picture(format: str = "PNG", size: tuple[int, int] = (40, 30), exif: dict[int, object] | None = None) -> bytes:
    """A picture, with entries of the EXIF folder of that name."""
    image = Image.new("RGB", size, "teal")
    written = Image.Exif()
    written.get_ifd(ExifTags.IFD.Exif).update(exif or {})
    buffer = io.BytesIO()
    image.save(buffer, format, exif=written)
    return buffer.getvalue()


def a_sound(seconds: float = 1.0, hz: int = 8000) -> bytes:
    """A WAV of silence, in stereo."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(hz)
        sound.writeframes(bytes(4 * int(seconds * hz)))
    return buffer.getvalue()


def a_video(width: int = 320, height: int = 240) -> bytes:
    """The least MP4 that is one: two frames in two seconds, made in the first second of 2024."""
    # Seconds from 1904 until then.
    created = 3_786_912_000
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    kind = _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2mp41")
    movie = _box(
        b"mvhd",
        struct.pack(">IIIII", 0, created, created, 1000, 2000),
        struct.pack(">IH", 0x10000, 0x100),
        bytes(10),
        matrix,
        bytes(24),
        struct.pack(">I", 2),
    )
    track = _box(
        b"tkhd",
        struct.pack(">IIIIII", 7, created, created, 1, 0, 2000),
        bytes(16),
        matrix,
        struct.pack(">II", width << 16, height << 16),
    )
    entry = _box(
        b"mp4v",
        struct.pack(">6xH16xHHII4xH32xHh", 1, width, height, 0x480000, 0x480000, 1, 24, -1),
    )
    samples = _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1), entry),
        _box(b"stts", struct.pack(">IIII", 0, 1, 2, 1000)),
        _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 2, 1)),
        _box(b"stsz", struct.pack(">III", 0, 4, 2)),
        _box(b"stco", struct.pack(">III", 0, 1, len(kind) + 8)),
    )
    here = _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1), _box(b"url ", struct.pack(">I", 1))))
    media = _box(
        b"mdia",
        _box(b"mdhd", struct.pack(">IIIIIHH", 0, created, created, 1000, 2000, 0x55C4, 0)),
        _box(b"hdlr", bytes(8), b"vide", bytes(12), b"v\0"),
        _box(b"minf", _box(b"vmhd", struct.pack(">I8x", 1)), here, samples),
    )
    return kind + _box(b"mdat", bytes(8)) + _box(b"moov", movie, _box(b"trak", track, media))


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body
