"""How one attempt ended, as it goes from a worker to store and queue."""

import logging
from dataclasses import dataclass

import msgspec

from allocator.domain.errors import InvalidJob
from allocator.domain.job import MAX_PAYLOAD_BYTES
from allocator.domain.payload import check_payload
from allocator.supervisor.held import Held

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Ending:
    """
    How one attempt ended.

    Args:
        verb: done, failed, dead or released.
        delay_s: Until the next attempt; None leaves it to the job's backoff.
        finished: On the monotonic clock of this process.
        begun: Whether it began in the store, which then is to hear of its end; None where the store may have it,
            since its reply was lost.
    """

    held: Held
    verb: str
    error: str = ""
    traceback: str | None = None
    delay_s: float | None = None
    result: object = None
    finished: float = 0.0
    begun: bool | None = True

    def result_json(self) -> bytes | None:
        """What the processor returned, as strict JSON; None where it was nothing, or is no JSON, or over 1 MiB."""
        if self.result is None:
            return None
        try:
            check_payload(self.result, "result")
            result = _encode(self.result)
            if len(result) > MAX_PAYLOAD_BYTES:
                # A whole group goes to the store at once, and one that it does not take would be tried for ever.
                raise InvalidJob(
                    "result",
                    f"{len(result):,} bytes of JSON is more than {MAX_PAYLOAD_BYTES:,}; keep it elsewhere and return a "
                    "reference",
                )
            return result
        except (InvalidJob, ValueError, TypeError) as error:
            # The work is done; to fail it for its return value would do it again.
            log.warning("job %s: what its processor returned is not kept: %s", self.held.lease.job.id, error)
            return None
