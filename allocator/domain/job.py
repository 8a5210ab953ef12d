"""A job, and the rules it must meet before a queue accepts it."""

from collections.abc import Callable
from typing import Any

import msgspec

from allocator.domain.backoff import Backoff
from allocator.domain.errors import InvalidJob
from allocator.domain.ids import new_id
from allocator.domain.payload import PLAIN_TYPES, check_payload

PRIORITY_MIN, PRIORITY_MAX = -1000, 1000
MAX_PAYLOAD_BYTES = 1024 * 1024
MAX_META_BYTES = 4096
MAX_NAME_CHARS = 200
MAX_RETRIES = 1_000_000
MAX_DELAY_S = 10 * 365 * 86400.0
NO_META: dict[str, str] = {}


class Job(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """
    A unit of work.

    Args:
        type: Names the processor that does it. Not empty, at most 200 characters.
        payload: Strict JSON, at most 1 MiB encoded. Tuples come back as lists.
        priority: From -1000 to 1000; higher goes first.
        max_retries: Attempts after the first that may fail before the job becomes a dead letter.
        delay: Seconds until it is due.
        timeout: Seconds that one attempt may take; None leaves it to the supervisor.
        meta: Tags and trace context: strings to strings, at most 4 KiB encoded.
        id: At most 200 printable characters, no spaces; a new UUIDv7 when empty.
        backoff: Overrides the queue's backoff for this job.
        failed_count: Attempts that failed since the job was accepted or last put back. Not zero at enqueue only
            where a job is restored from the store.
        enqueued_at: When the queue accepted it, seconds since the epoch on the queue's clock; None before that.
    """

    type: str
    payload: Any = None
    priority: int = 0
    max_retries: int = 3
    delay: float = 0.0
    timeout: float | None = None
    meta: dict[str, str] = {}
    id: str = ""
    backoff: Backoff | None = None
    failed_count: int = 0
    enqueued_at: float | None = None


_encode = msgspec.json.Encoder().encode
decode_record: Callable[[bytes], Job] = msgspec.json.Decoder(Job).decode
"""The job of a record, without id and instants; unknown fields are passed over. Raises msgspec.DecodeError."""

# What copy.copy calls, without the detour.
_copy: Callable[[Job], Job] = Job.__copy__  # type: ignore[attr-defined]


def prepare(job: Job) -> tuple[Job, bytes]:
    """
    The job as it will be stored, and its record: strict JSON without id and instants.

    The caller's job is left as it is. The record is encoded here, once, and opaque from then on.

    Raises:
        InvalidJob: Naming the field, before anything has left the process.
    """
    # What nearly every job has is told apart here by identity and type; `_check_fields` explains the rest.
    kind, priority, max_retries, payload = job.type, job.priority, job.max_retries, job.payload
    if (
        type(kind) is str
        and kind.isascii()
        and 0 < len(kind) <= MAX_NAME_CHARS
        and type(priority) is int
        and PRIORITY_MIN <= priority <= PRIORITY_MAX
        and type(max_retries) is int
        and 0 <= max_retries <= MAX_RETRIES
        and type(job.delay) is float
        and type(job.failed_count) is int
        and not (job.delay or job.failed_count)
        and job.id == ""
        and job.meta == NO_META
        and job.timeout is None
        and job.backoff is None
        and job.enqueued_at is None
    ):
        stored = _copy(job)
    else:
        _check_fields(job)
        stored = _copy(job)
        stored.id = ""
        stored.enqueued_at = None
    has_tuples = False
    if type(payload) is dict:
        # A flat object of numbers needs no walk.
        for key, item in payload.items():
            if type(key) is not str or type(item) not in PLAIN_TYPES or not key.isascii():
                has_tuples = check_payload(payload)
                break
    else:
        has_tuples = check_payload(payload)

    try:
        record = _encode(stored)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidJob("payload", f"cannot be encoded as JSON: {error}") from None
    if len(record) > MAX_PAYLOAD_BYTES:
        size = len(_encode(payload))
        if size > MAX_PAYLOAD_BYTES:
            raise InvalidJob(
                "payload",
                f"{size:,} bytes of JSON is more than {MAX_PAYLOAD_BYTES:,}; store it elsewhere and send a reference",
            )
    if has_tuples:
        stored = decode_record(record)
    stored.id = job.id or new_id()
    return stored, record


def restore(job_id: str, record: bytes, failed_count: int, enqueued_at: float) -> Job:
    """
    The job of a record, decoded afresh; unknown fields are passed over (and stay in the record).

    Raises:
        msgspec.DecodeError: The record is damaged or not ours.
    """
    job = decode_record(record)
    job.id = job_id
    job.failed_count = failed_count
    job.enqueued_at = enqueued_at
    return job


def _check_fields(job: Job) -> None:
    if not isinstance(job.type, str) or not job.type:
        raise InvalidJob("type", f"must be a string that is not empty, not {job.type!r}")
    _check_text("type", job.type)
    if len(job.type) > MAX_NAME_CHARS:
        raise InvalidJob("type", f"{len(job.type)} characters is more than {MAX_NAME_CHARS}")
    _check_integer("priority", job.priority, PRIORITY_MIN, PRIORITY_MAX)
    _check_integer("max_retries", job.max_retries, 0, MAX_RETRIES)
    _check_integer("failed_count", job.failed_count, 0, MAX_RETRIES)
    check_delay("delay", job.delay)
    if job.timeout is not None:
        check_seconds("timeout", job.timeout)
    if job.backoff is not None and not isinstance(job.backoff, Backoff):
        raise InvalidJob("backoff", f"must be a Backoff or None, not {job.backoff!r}")
    check_id(job.id)
    _check_meta(job.meta)


def check_id(job_id: object) -> str:
    """A job id as given by a caller, or InvalidJob. The empty string stands for "make one"."""
    if not isinstance(job_id, str):
        raise InvalidJob("id", f"must be a string, not {job_id!r}")
    if len(job_id) > MAX_NAME_CHARS or not job_id.isprintable() or " " in job_id:
        raise InvalidJob("id", f"must be at most {MAX_NAME_CHARS} printable characters without spaces, not {job_id!r}")
    return job_id


def check_delay(field: str, seconds: object) -> float:
    """Seconds from 0 to ten years, or InvalidJob."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_DELAY_S:
        raise InvalidJob(field, f"must be a number of seconds from 0 to {MAX_DELAY_S:.0f} (ten years), not {seconds!r}")
    return float(seconds)


def check_seconds(field: str, seconds: object) -> float:
    """A finite number of seconds above 0 and up to ten years, or InvalidJob."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_DELAY_S:
        raise InvalidJob(field, f"must be a number of seconds above 0, at most ten years, not {seconds!r}")
    return float(seconds)


def _check_integer(field: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidJob(field, f"must be an integer from {low} to {high}, not {value!r}")


def _check_meta(meta: object) -> None:
    if not isinstance(meta, dict):
        raise InvalidJob("meta", f"must map strings to strings, not {meta!r}")
    for key, value in meta.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidJob(f"meta.{key}", f"must map strings to strings, not {key!r} to {value!r}")
        _check_text(f"meta.{key!a}", key)
        _check_text(f"meta.{key}", value)
    size = len(_encode(meta))
    if size > MAX_META_BYTES:
        raise InvalidJob("meta", f"{size:,} bytes is more than {MAX_META_BYTES:,}; put data into the payload")


def _check_text(field: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidJob(field, f"a lone surrogate at position {error.start} is not valid text") from None
