"""
What experiments leave for the report, and the folder that they leave it in.

    reports/<id>/
        runs/<run id>/            see `allocator.bench.runs.Run`
        baseline/<run id>/        the same, of the commit that this tree was compared with
        measures/<notebook>.json  figures with their unit, interval and the runs they come from
        comparisons/<notebook>.json  which runs of this tree and of the baseline are set side by side
        tables/<name>.parquet     frames that a figure of the page is drawn from
        notebooks/                executed
        tests.xml                 JUnit, of the tests that are evidence

A notebook makes one `Artefacts`, runs workloads into `.runs`, and says what came of it with `.measure`.
"""

import math
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pandas as pd

from allocator.bench.runs.run import Run
from allocator.domain.errors import AllocatorError
from allocator.report.places import reports_folder

RUNS, MEASURES, TABLES, NOTEBOOKS, TESTS = "runs", "measures", "tables", "notebooks", "tests.xml"
BASELINE, COMPARISONS = "baseline", "comparisons"
NAME = re.compile(r"[a-z0-9_.-]+(/[a-z0-9_.-]+)*")


class BadMeasure(AllocatorError, ValueError):
    """A measure was refused, or a file of measures cannot be read; the text names it."""


class Measure(msgspec.Struct, kw_only=True, omit_defaults=True):
    """
    One figure of this report.

    Args:
        name: Path-like, the backend first: `redis/wait_p99_s`.
        notebook: Which one measured it.
        value: In `unit`; None: not measured, for `reason`.
        n: What the figure is of, counted: runs, jobs, kills; the note says which.
        low, high: An interval about the value, in its unit.
        level: Of the interval, 0.95; None: low and high are the least and the most that were seen.
        runs: Ids of the runs that it was computed from; their gates and verdicts decide whether it may be used.
        command: What would measure it.
        by: Which of `allocator.report.verifying.OVER_RUNS` gives it for each of the runs, whose median it is; empty: it
            came about otherwise.
        at: Seconds since the epoch.
    """

    name: str
    notebook: str
    value: float | None = None
    unit: str = ""
    n: int | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    runs: list[str] = []
    note: str = ""
    reason: str = ""
    command: str = ""
    by: str = ""
    at: float = 0.0


class Compared(msgspec.Struct, kw_only=True, omit_defaults=True):
    """
    Runs of this tree and of a baseline, side by side.

    Args:
        name: Backend and figure, one of `allocator.bench.runs.comparing.FIGURES`: `redis/throughput`.
        baseline: Which commit it was.
        sets: Of each set, arm -> ids of its runs, in the order of rounds; the second one was made to confirm the first.
    """

    name: str
    notebook: str
    baseline: str
    sets: list[dict[str, list[str]]]

    def ids(self, *arms: str) -> list[str]:
        """The runs of these arms, of all sets."""
        return [id for each in self.sets for arm in arms for id in each[arm]]


class Artefacts:
    """
    The folder of a report, as one notebook writes it.

    Args:
        folder: Of the report; empty or None: a new one below `reports_folder()`.
        notebook: Its name, without `.ipynb`. One that is run once for each backend adds it: `10-latency-redis`. What
            an earlier execution under this name measured is replaced.

    Attributes:
        runs: Where runs go: `run(workload, backend, folder=artefacts.runs)`.
        baseline: Where those of a baseline go, which say nothing of this tree.
    """

    def __init__(self, folder: Path | str | None, notebook: str) -> None:
        if NAME.fullmatch(notebook) is None or "/" in notebook:
            raise BadMeasure(f"notebook {notebook!r}: a name is made of a-z, 0-9, '_', '.' and '-'")
        self.folder = Path(folder).resolve() if folder else new_report_folder(notebook)
        self.notebook = notebook
        self.runs, self.baseline = self.folder / RUNS, self.folder / BASELINE
        for part in (RUNS, MEASURES, TABLES):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._measures: dict[str, Measure] = {}
        self._compared: list[Compared] = []
        (self.folder / COMPARISONS / f"{notebook}.json").unlink(missing_ok=True)
        self._write()

    def measure(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        n: int | None = None,
        low: float | None = None,
        high: float | None = None,
        level: float | None = None,
        runs: Iterable[Run | str] = (),
        note: str = "",
        by: str = "",
    ) -> None:
        """
        Say what came of an experiment; it is written at once. A name that was given before is replaced.

        Args:
            name, value, unit, n, low, high, level, note, by: See `Measure`.
            runs: That the figure was computed from, or their ids. They must be in `.runs`.

        Raises:
            BadMeasure: No name, a value that is no finite number (say `not_measured` then), half an interval, or a run
                that is not in this folder.
        """
        ids = [run if isinstance(run, str) else run.about.id for run in runs]
        numbers = {"value": value, "low": low, "high": high}
        for field, number in numbers.items():
            if number is not None and not math.isfinite(number):
                raise BadMeasure(f"measure {name}: {field} is {number!r}; use not_measured where there is no figure")
        if (low is None) != (high is None):
            raise BadMeasure(f"measure {name}: low and high are given together or not at all")
        if missing := [id for id in ids if not (self.runs / id).is_dir()]:
            raise BadMeasure(f"measure {name}: no run {missing[0]} in {self.runs}; run it with folder=artefacts.runs")
        self._keep(
            Measure(
                name=name,
                notebook=self.notebook,
                value=float(value),
                unit=unit,
                n=None if n is None else int(n),
                low=None if low is None else float(low),
                high=None if high is None else float(high),
                level=None if level is None else float(level),
                runs=ids,
                note=note,
                by=by,
            )
        )

    def not_measured(self, name: str, reason: str, command: str) -> None:
        """
        Say that a figure could not be had.

        Args:
            reason: Why, as the end of a sentence: "no PostgreSQL server could be found or started".
            command: What a reader would run to have it.
        """
        if not reason or not command:
            raise BadMeasure(
                f"measure {name}: what was not measured needs a reason and the command that would measure it"
            )
        self._keep(Measure(name=name, notebook=self.notebook, reason=reason, command=command))

    def compare(
        self, backend: str, figures: Iterable[str], baseline: str, sets: Sequence[Mapping[str, Sequence[Run]]]
    ) -> None:
        """
        Say which runs are to be set side by side; what comes of it is computed from them.

        Args:
            figures: Of `allocator.bench.runs.comparing.FIGURES`.
            baseline: Which commit it was, for a reader.
            sets: See `allocator.bench.runs.comparing.measure_sets`.
        """
        ids = [{arm: [run.about.id for run in runs] for arm, runs in each.items()} for each in sets]
        self._compared += [
            Compared(name=f"{backend}/{figure}", notebook=self.notebook, baseline=baseline, sets=ids)
            for figure in figures
        ]
        folder = self.folder / COMPARISONS
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"{self.notebook}.json", msgspec.json.format(msgspec.json.encode(self._compared)))

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """
        Keep a frame that the page draws a figure from, with a column `backend` where there is more than one.

        Known names: `load_latency` (columns of `statistics.curves.load_latency`), `scaling` (of `statistics.curves.
        scaling`), `faults` (a row a fault and backend), `dead_letters` (a row a letter), `overhead`.
        """
        _check_name(name)
        path = self.folder / TABLES / f"{self.notebook}--{name.replace('/', '-')}.parquet"
        part = path.with_suffix(f".{secrets.token_hex(4)}.part")
        frame.to_parquet(part)
        part.replace(path)

    def _keep(self, measure: Measure) -> None:
        _check_name(measure.name)
        measure.at = datetime.now(UTC).timestamp()
        self._measures[measure.name] = measure
        self._write()

    def _write(self) -> None:
        path = self.folder / MEASURES / f"{self.notebook}.json"
        write_atomically(path, msgspec.json.format(msgspec.json.encode(list(self._measures.values()))))


def read_measures(folder: Path) -> dict[str, Measure]:
    """
    All that was measured for a report: name -> measure. Of two under one name the later one counts.

    Raises:
        BadMeasure: A file is damaged.
    """
    found: list[Measure] = []
    for path in sorted((folder / MEASURES).glob("*.json")):
        try:
            found += msgspec.json.decode(path.read_bytes(), type=list[Measure])
        except (OSError, msgspec.MsgspecError) as error:
            raise BadMeasure(f"{path}: these measures cannot be read ({error}); run the notebook again") from error
    return {measure.name: measure for measure in sorted(found, key=lambda measure: measure.at)}


def read_comparisons(folder: Path) -> dict[str, Compared]:
    """
    All that was set side by side for a report: name -> runs.

    Raises:
        BadMeasure: A file is damaged.
    """
    found: list[Compared] = []
    for path in sorted((folder / COMPARISONS).glob("*.json")):
        try:
            found += msgspec.json.decode(path.read_bytes(), type=list[Compared])
        except (OSError, msgspec.MsgspecError) as error:
            raise BadMeasure(f"{path}: these comparisons cannot be read ({error}); run the notebook again") from error
    return {compared.name: compared for compared in found}


def read_tables(folder: Path, name: str) -> pd.DataFrame | None:
    """Every notebook's frame of this name, one below the other; None: nobody left one."""
    paths = sorted((folder / TABLES).glob(f"*--{name.replace('/', '-')}.parquet"))
    frames: Sequence[pd.DataFrame] = [pd.read_parquet(path) for path in paths]
    return pd.concat(frames, ignore_index=True) if frames else None


def new_report_folder(purpose: str, reports: Path | None = None) -> Path:
    """A folder that was not there, in `reports` or `reports_folder()`; its name sorts by time (UTC)."""
    folder = (
        reports or reports_folder()
    ).resolve() / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{purpose}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return folder


def write_atomically(path: Path, data: bytes) -> None:
    """A reader finds the old content or the new one, whole."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    part.write_bytes(data)
    part.replace(path)


def _check_name(name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise BadMeasure(f"measure {name!r}: a name is made of a-z, 0-9, '_', '.' and '-', in parts divided by '/'")
