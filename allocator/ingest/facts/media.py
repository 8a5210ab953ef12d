"""
Facts of images (Pillow), and of audio and video (MediaInfo, which comes inside the wheel of pymediainfo).

Only what lies before the pictures and sounds themselves is read: nothing is decoded.
"""

import math
import re
import warnings
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
from PIL import ExifTags, Image, UnidentifiedImageError
from pymediainfo import MediaInfo

from allocator.ingest.errors import Unreadable
from allocator.ingest.facts.bounds import plain, too_large
from allocator.ingest.identify import Identity

MAX_IMAGE_PIXELS = 89_478_485
"""Pillow's own limit, a quarter of a gigabyte of colour; what is above it is an error here, not a warning."""

PILLOW_FORMATS = {
    "image/png": ["PNG"],
    "image/jpeg": ["JPEG"],
    "image/gif": ["GIF"],
    "image/tiff": ["TIFF"],
    "image/webp": ["WEBP"],
    "image/avif": ["AVIF"],
    "image/bmp": ["BMP"],
    "image/jp2": ["JPEG2000"],
    "image/x-icon": ["ICO"],
    "image/x-portable-anymap": ["PPM"],
    "image/vnd.adobe.photoshop": ["PSD"],
}
"""By type, the readers that are let at a file: no others, of which some start programs."""

_TAGS = {
    "title": "Title",
    "artist": "Performer",
    "album": "Album",
    "track": "Track",
    "track_position": "Track_Position",
    "genre": "Genre",
    "comment": "Comment",
    "copyright": "Copyright",
    "recorded": "Recorded_Date",
    "encoded": "Encoded_Date",
    "encoder": "Encoded_Application",
}


def media_facts(path: Path | str, identity: Identity) -> dict[str, Any]:
    """
    What an image, a sound or a video says of itself.

    Of an image: `width`, `height` (pixels, as stored), `format`, `mode`, `animated`, `exif` (names as in the standard).
    Of all others: `container`, `duration_s` (None if it does not say), `codec` (the first video track's, else the first
    audio track's), `tracks`, `tags`; of video also `width` and `height`.
    Where it tells when it was taken or recorded, `taken` is that as text (ISO 8601, with an offset if the file has one)
    and `taken_at` in seconds since 1970; without an offset the time is taken for UTC.

    Raises:
        Unreadable: It is broken, or has more pixels than MAX_IMAGE_PIXELS.
        OSError: It cannot be opened.
    """
    formats = PILLOW_FORMATS.get(identity.type)
    if formats is not None:
        return _image_facts(path, identity, formats)
    return _track_facts(path, identity)


# Images


def _image_facts(path: Path | str, identity: Identity, formats: list[str]) -> dict[str, Any]:
    with open(path, "rb") as file:
        try:
            with warnings.catch_warnings():
                # Complaints about metadata that it can do without.
                warnings.simplefilter("ignore")
                with Image.open(file, formats=formats) as image:
                    return _facts_of(image)
        except Unreadable:
            raise
        except MemoryError:
            raise too_large(identity.type) from None
        except Image.DecompressionBombError as error:
            raise _too_many_pixels(str(error)) from None
        except Exception as error:
            # Readers of broken files raise whatever comes up: struct.error, KeyError, SyntaxError, OverflowError.
            said = plain(str(error)) if not isinstance(error, UnidentifiedImageError) else "no header that holds"
            raise Unreadable(f"This is no {identity.type} that can be read: {said or type(error).__name__}.") from error


def _facts_of(image: Image.Image) -> dict[str, Any]:
    width, height = image.size
    if width * height > MAX_IMAGE_PIXELS:
        raise _too_many_pixels(f"{width} × {height}")
    facts: dict[str, Any] = {
        "width": width,
        "height": height,
        "format": image.format,
        "mode": image.mode,
        "animated": bool(getattr(image, "is_animated", False)),
        "exif": {},
    }
    try:
        exif = image.getexif()
        merged: dict[int, Any] = dict(exif)
        merged |= exif.get_ifd(ExifTags.IFD.Exif)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except MemoryError:
        raise
    except Exception as error:
        # The picture is good without it.
        facts["exif_error"] = plain(str(error)) or type(error).__name__
        return facts
    facts["exif"] = {
        name: said
        for tag, value in sorted(merged.items())
        if (name := _exif_name(tag)) and (said := plain(value)) is not None
    }
    if gps:
        named = {ExifTags.GPSTAGS.get(tag, ""): plain(value) for tag, value in sorted(gps.items())}
        facts["exif"]["GPSInfo"] = {name: said for name, said in named.items() if name and said is not None}
    facts |= _taken(*_exif_time(facts["exif"]))
    return facts


_POINTERS = {"ExifOffset", "GPSInfo", "MakerNote", "ExifInteroperabilityOffset", "PrintImageMatching"}


def _exif_name(tag: int) -> str:
    """Its name in the standard; nothing for what is only meant for programs."""
    name = ExifTags.TAGS.get(tag, "")
    return "" if name in _POINTERS else name


_EXIF_TIME = re.compile(r"(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")


def _exif_time(exif: dict[str, Any]) -> tuple[str, str]:
    """When the picture was taken, and the offset from UTC if the camera knew it, as it wrote them."""
    for time_tag, offset_tag in (
        ("DateTimeOriginal", "OffsetTimeOriginal"),
        ("DateTimeDigitized", "OffsetTimeDigitized"),
        ("DateTime", "OffsetTime"),
    ):
        text = exif.get(time_tag)
        if isinstance(text, str) and _EXIF_TIME.match(text):
            return text, str(exif.get(offset_tag) or "")
    return "", ""


def _too_many_pixels(size: str) -> Unreadable:
    return Unreadable(
        f"The image claims more than {MAX_IMAGE_PIXELS:,} pixels ({size}), too many to be taken at its word."
    )


# Audio and video


def _track_facts(path: Path | str, identity: Identity) -> dict[str, Any]:
    # From an open file and not by its name, so that the library follows no reference to another file.
    with open(path, "rb") as file:
        try:
            said = MediaInfo.parse(file, output="JSON", full=False, encoding_errors="replace")
            media = msgspec.json.decode(said.encode("utf-8", "replace"))["media"]
            tracks = media["track"]
        except MemoryError:
            raise too_large(identity.type) from None
        except Exception as error:
            raise Unreadable(f"This is no {identity.type} that can be read: {plain(str(error))}.") from error
    general: dict[str, Any] = next((track for track in tracks if track.get("@type") == "General"), {})
    streams = [track for track in tracks if track.get("@type") in ("Video", "Audio", "Image", "Text")]
    if not general.get("Format") or not any(track["@type"] != "Text" for track in streams):
        cut = "Yes" in str(general.get("extra", {}).get("IsTruncated", ""))
        why = "it is cut off before its first track" if cut else "it has no sound and no picture"
        raise Unreadable(f"This is no {identity.type} that can be read: {why}.")
    sights = [track for track in streams if track["@type"] in ("Video", "Image")]
    sounds = [track for track in streams if track["@type"] == "Audio"]
    facts: dict[str, Any] = {
        "container": plain(general["Format"]),
        "duration_s": _number(general.get("Duration")),
        "codec": plain((sights or sounds)[0].get("Format")),
        "tracks": [_stream(track) for track in streams[:100]],
        "tags": {name: plain(general[key]) for name, key in _TAGS.items() if general.get(key)},
    }
    if sights:
        facts["width"] = _whole(sights[0].get("Width"))
        facts["height"] = _whole(sights[0].get("Height"))
    when = str(general.get("Recorded_Date") or general.get("Encoded_Date") or "")
    facts |= _taken(when, "+00:00" if when.endswith(("UTC", "Z")) else "")
    return facts


def _stream(track: dict[str, Any]) -> dict[str, Any]:
    found = {
        "kind": track["@type"].lower(),
        "codec": plain(track.get("Format")),
        "duration_s": _number(track.get("Duration")),
        "bits_per_s": _whole(track.get("BitRate")),
        "width": _whole(track.get("Width")),
        "height": _whole(track.get("Height")),
        "frames_per_s": _number(track.get("FrameRate")),
        "channels": _whole(track.get("Channels")),
        "samples_per_s": _whole(track.get("SamplingRate")),
        "language": plain(track.get("Language")),
    }
    return {name: value for name, value in found.items() if value is not None}


def _number(text: object) -> float | None:
    try:
        number = float(str(text))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(text: object) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


# When


def _taken(text: str, offset: str) -> dict[str, Any]:
    """`taken` and `taken_at`, or nothing if that is no date: cameras without a clock write zeros."""
    found = _EXIF_TIME.match(text)
    if not found:
        return {}
    try:
        when = datetime(*map(int, found.groups()))  # type: ignore[arg-type]
        if zone := _OFFSET.match(offset):
            minutes = int(zone[2]) * 60 + int(zone[3])
            when = when.replace(tzinfo=timezone(timedelta(minutes=minutes if zone[1] == "+" else -minutes)))
        known = when if when.tzinfo else when.replace(tzinfo=UTC)
        return {"taken": when.isoformat(), "taken_at": known.timestamp()}
    except (ValueError, OverflowError):
        return {}
