"""How a report was made: what was asked for, which servers there were, and how notebooks and tests went."""

from pathlib import Path

import msgspec

from allocator.domain.errors import AllocatorError
from allocator.report.artefacts import write_atomically
from allocator.report.places import reports_folder

MADE = "made.json"
OWN_CLAIMS = "claims.toml"
"""The file given with --claims, kept beside what it was judged by."""

COMPARING = "70-baseline"
"""The notebook that measures this tree beside a baseline."""

PASSED, FAILED, TIMED_OUT, NOT_RUN = "passed", "failed", "timed out", "not run"


class NoReport(AllocatorError):
    """A folder holds no report, or one that is damaged."""


class Step(msgspec.Struct, kw_only=True, omit_defaults=True):
    """
    A notebook, or all tests.

    Args:
        status: passed, failed, timed out or not run. Tests passed if they ran to their end, whatever they found.
        error: In a sentence, where it did not pass.
    """

    name: str
    status: str
    took_s: float = 0.0
    error: str = ""
    command: str = ""


class Made(msgspec.Struct, kw_only=True):
    """
    What is known of the making; written after each step, so that a report that was cut short says how far it came.

    Args:
        profile: smoke, ci or full; or by hand.
        backends: That were asked for and are there.
        missing: Backend -> why it could not be had.
        servers: Backend -> which server it was.
        command: That made it.
        baseline: Which commit this tree was measured beside; empty: none.
        problems: Of the harness itself: with one of them the exit status is 2 at best.
        fingerprint: Label -> value, see `allocator.bench.fingerprint`.
    """

    id: str
    profile: str
    started_at: float
    command: str
    took_s: float = 0.0
    backends: list[str] = []
    missing: dict[str, str] = {}
    servers: dict[str, str] = {}
    tests: Step = msgspec.field(default_factory=lambda: Step(name="tests", status=NOT_RUN))
    notebooks: list[Step] = []
    baseline: str = ""
    problems: list[str] = []
    fingerprint: dict[str, str] = {}

    def write(self, folder: Path) -> None:
        write_atomically(folder / MADE, msgspec.json.format(msgspec.json.encode(self)))

    @classmethod
    def read(cls, folder: Path) -> "Made":
        """
        Raises:
            NoReport: The folder holds none.
        """
        try:
            return msgspec.json.decode((folder / MADE).read_bytes(), type=cls)
        except FileNotFoundError:
            raise NoReport(f"{folder} holds no report; `allocator report` makes one, and says where") from None
        except (OSError, msgspec.MsgspecError) as error:
            raise NoReport(f"{folder} holds no report that can be read: {error}") from error

    @property
    def broken(self) -> list[str]:
        """What of the harness did not work, a sentence each."""
        steps = [step for step in (self.tests, *self.notebooks) if step.status in (FAILED, TIMED_OUT)]
        return self.problems + [f"{step.name} {step.status}: {step.error}" for step in steps]


def newest_report(reports: Path | None = None) -> Path:
    """
    The folder of the report that was begun last, in `reports` or `reports_folder()`.

    Raises:
        NoReport: There is none.
    """
    where = (reports or reports_folder()).resolve()
    # Their names begin with the time.
    found = sorted(path.parent for path in where.glob(f"*/{MADE}"))
    if not found:
        raise NoReport(f"{where} holds no report; `allocator report` makes one")
    return found[-1]
