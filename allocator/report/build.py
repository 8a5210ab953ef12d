"""`allocator report`: measure first, then render; whatever goes wrong on the way stands in the report."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from allocator.bench.fingerprint import fingerprint, load_average
from allocator.bench.revisions import install
from allocator.report import index
from allocator.report.artefacts import MEASURES, NOTEBOOKS, RUNS, TABLES, TESTS, new_report_folder
from allocator.report.claims import BACKENDS, load_claims
from allocator.report.executing import execute
from allocator.report.export import export
from allocator.report.made import COMPARING, OWN_CLAIMS, PASSED, Made, NoReport, Step
from allocator.report.notebook import profile
from allocator.report.page import Page
from allocator.report.places import notebooks_folder
from allocator.report.results import write_results
from allocator.report.testing import named_tests, run_tests
from allocator.services import Server, ServiceUnavailable, open_postgres, open_redis

LAST = "90-report"

INSTALL_S = 20.0
"""That a baseline is expected to take until it can be run."""

COMPARING_TIMES = 6
"""The notebook that compares takes so many times as long as others: it has three arms, and may measure each twice."""


@dataclass(frozen=True)
class Limits:
    """
    Seconds that a step may take, and that it is expected to take where nothing is known of an earlier report.

    The expectation is for the progress display only.
    """

    tests_s: float
    notebook_s: float
    expected_tests_s: float
    expected_notebook_s: float


LIMITS = {
    "smoke": Limits(300, 180, 60, 20),
    "ci": Limits(900, 600, 90, 120),
    "full": Limits(3600, 3600, 90, 900),
}

Say = Callable[[str, float, float], None]
"""Told what is being done, and how many seconds of how many are over."""


@dataclass(frozen=True)
class Order:
    """
    What is wanted.

    Args:
        profile: smoke, ci or full.
        backends: Of memory, redis, postgres.
        claims: A file of the user's own.
        baseline: A commit to measure beside this tree, as git names it; None: none.
        reports: The folder of all reports; None: `reports_folder()`.
        command: As it was typed, for the page.
    """

    profile: str
    backends: Sequence[str]
    claims: Path | None
    baseline: str | None
    reports: Path | None
    command: str


def build(order: Order, say: Say = lambda doing, over_s, of_s: None) -> Path:
    """
    Make a report; returns its folder.

    Raises:
        BadClaim, ValueError: Claims or profile cannot be used; nothing was started.
        FileNotFoundError: The notebooks are not to be found.
        NoRevision: The baseline cannot be measured; nothing was started.
    """
    own = [order.claims] if order.claims else []
    claims = load_claims(*own)
    wanted = profile(order.profile)
    source = notebooks_folder()
    limits = LIMITS[order.profile]
    # Not a part of any profile: it is made where there is something to compare with.
    comparing = wanted.pop(COMPARING, {})
    baseline = ""
    if order.baseline is not None:
        say("installing the baseline", 0.0, INSTALL_S)
        installed = install(order.baseline)
        baseline = installed.name
        wanted[COMPARING] = {**comparing, "ref": installed.commit}
    folder = new_report_folder(order.profile, order.reports)
    for part in (RUNS, MEASURES, TABLES, NOTEBOOKS):
        (folder / part).mkdir()
    for path in own:
        shutil.copyfile(path, folder / OWN_CLAIMS)
    made = Made(id=folder.name, profile=order.profile, started_at=time.time(), command=order.command, baseline=baseline)
    made.fingerprint = {**fingerprint(), "load before": load_average()}
    began = time.monotonic()
    clock = _Clock(say, _expected(folder.parent, order.profile, list(wanted), limits))

    clock.begin("looking for servers")
    _find_servers(made, order.backends)
    made.write(folder)

    clock.begin("tests")
    made.tests = run_tests(named_tests(claims), folder / TESTS, limits.tests_s)
    made.write(folder)
    for name, parameters in wanted.items():
        clock.begin(name)
        given = {**parameters, "backends": made.backends, "out": str(folder)}
        limit_s = limits.notebook_s * (COMPARING_TIMES if name == COMPARING else 1)
        made.notebooks.append(_notebook(source, folder, name, given, limit_s))
        made.write(folder)

    made.took_s = time.monotonic() - began
    made.fingerprint["load after"] = load_average()
    made.write(folder)
    clock.begin("the page")
    render(made, source, folder, limits.notebook_s)
    clock.end()
    return folder


def _find_servers(made: Made, backends: Sequence[str]) -> None:
    openers: dict[str, Callable[[], Server]] = {"redis": open_redis, "postgres": open_postgres}
    for backend in backends:
        if backend in openers:
            try:
                with openers[backend]() as server:
                    made.servers[BACKENDS[backend]] = server.describe()
            except ServiceUnavailable as error:
                made.missing[backend] = str(error)
                continue
        made.backends.append(backend)


def _notebook(source: Path, folder: Path, name: str, parameters: dict[str, object], limit_s: float) -> Step:
    command = f"papermill notebooks/{name}.ipynb OUT.ipynb" + "".join(
        f" -p {key} {value!r}"
        for key, value in parameters.items()
        if isinstance(value, int | float | str) and key != "out"
    )
    return execute(source / f"{name}.ipynb", folder / NOTEBOOKS / f"{name}.ipynb", parameters, limit_s, command)


def render(made: Made, source: Path, folder: Path, limit_s: float) -> None:
    """The page and the machines' files; results are written even where the page cannot be."""
    executed = folder / NOTEBOOKS / f"{LAST}.ipynb"
    step = execute(
        source / f"{LAST}.ipynb", executed, {"out": str(folder)}, limit_s, f"allocator report show {made.id}"
    )
    if step.status != PASSED:
        made.problems.append(f"{LAST} {step.status}: {step.error}")
        made.write(folder)
    found = Page(folder).results
    if executed.exists():
        export(executed, folder / index.PAGE, f"allocator: {found.verdict}")
    write_results(folder, found)
    index.write(folder.parent)


def _expected(reports: Path, profile_name: str, notebooks: list[str], limits: Limits) -> dict[str, float]:
    """Step -> seconds that it took in the last report of this profile, or is expected to take."""
    expected = {"looking for servers": 3.0, "tests": limits.expected_tests_s}
    expected |= dict.fromkeys(notebooks, limits.expected_notebook_s)
    if COMPARING in expected:
        expected[COMPARING] *= COMPARING_TIMES
    for path in sorted(reports.glob(f"*-{profile_name}-*"), reverse=True):
        try:
            last = Made.read(path)
        except NoReport:
            continue
        if last.took_s:
            expected |= {step.name: step.took_s for step in (last.tests, *last.notebooks) if step.name in expected}
            break
    return expected | {"the page": 10.0}


class _Clock:
    """Turns steps into seconds over and seconds in all."""

    def __init__(self, say: Say, expected: dict[str, float]) -> None:
        self._say, self._expected = say, expected
        self._over_s = 0.0
        self._current: str | None = None

    def begin(self, step: str) -> None:
        if self._current is not None:
            self._over_s += self._expected.get(self._current, 0.0)
        self._current = step
        self._say(step, self._over_s, sum(self._expected.values()))

    def end(self) -> None:
        total = sum(self._expected.values())
        self._say("done", total, total)
