"""The folder a server keeps its data in, and the lock that lets only one owner start a server on it."""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from allocator.services.errors import ServiceUnavailable
from allocator.services.watchdog import is_running

# A server whose owner was killed is being stopped and lets go of the lock soon; longer than any stop limit.
_HANDOVER_LIMIT_S = 45.0


class DataFolder:
    """A folder given by the caller, made if missing and never removed, or a temporary one."""

    def __init__(self, given: Path | None, name: str) -> None:
        self.is_temporary = given is None
        if given is None:
            self.path = Path(tempfile.mkdtemp(prefix=f"allocator-{name}-")).resolve()
        else:
            given.mkdir(parents=True, exist_ok=True)
            self.path = given.resolve()

    @property
    def to_remove(self) -> Path | None:
        return self.path if self.is_temporary else None

    def lock(self, *, patient: bool = False) -> int:
        """
        A descriptor that holds the folder's lock; whoever inherits it shares the lock until all have closed
        it.

        Args:
            patient: Wait for a holder that lives, too; otherwise only for one whose owner is dead.
        """
        fd = os.open(self.path / "allocator.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + _HANDOVER_LIMIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(fd, 32, 0).decode(errors="replace").strip()
                is_dead = owner.isdigit() and not is_running(int(owner))
                if (patient or is_dead) and time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                os.close(fd)
                raise ServiceUnavailable(
                    f"the folder {self.path} is in use by a server that process {owner or 'unknown'} "
                    "started; "
                    "stop that process or choose another folder"
                ) from None
            except OSError as error:
                os.close(fd)
                raise ServiceUnavailable(
                    f"the folder {self.path} cannot be locked ({error}); choose one on a local disk"
                ) from error
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            return fd

    def remove_if_temporary(self) -> None:
        if self.is_temporary:
            shutil.rmtree(self.path, ignore_errors=True)
