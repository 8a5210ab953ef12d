"""The errors of this package. Each says what happened, to which job, and what to do next."""


class AllocatorError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidJob(AllocatorError, ValueError):
    """A job was refused before it reached the queue; `field` names what was wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class QueueClosed(AllocatorError, RuntimeError):
    """This queue object was closed; nothing can be enqueued through it any more."""


class QueueForked(AllocatorError, RuntimeError):
    """A queue object made before a fork was used in the child."""


class LeaseLost(AllocatorError):
    """A lease was used after it had expired, been settled, or been taken back. Nothing was changed."""

    def __init__(self, job_id: str, attempt: int, expires_at: float, lease_s: float) -> None:
        super().__init__(
            f"job {job_id} attempt {attempt}: the lease is lost (it ran until {expires_at:.3f}, seconds since 1970), "
            "or was settled before; this result was discarded and nothing was changed. "
            f"Extend the lease while working, or raise lease_s (now {lease_s:g})."
        )
        self.job_id = job_id
        self.attempt = attempt
        self.expires_at = expires_at


class QueueUnavailable(AllocatorError, ConnectionError):
    """The server of a queue did not answer within the bound; the text says what to check."""


class QueueFull(AllocatorError):
    """The server has no room for the change (memory limit or disk). Nothing was changed."""


class NewerVersion(AllocatorError):
    """A queue or a record was written by a newer release. Nothing was taken or changed."""


class QueueDamaged(AllocatorError):
    """A key or table of the queue holds something that this package did not write."""
