"""What every notebook begins with: its parameters are checked, and the servers that it needs found or started."""

import ast
import atexit
import inspect
import math
import os
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from IPython.display import display
from pydantic import ConfigDict, ValidationError, create_model

from allocator.bench.scratch import scratch_name
from allocator.domain.errors import AllocatorError
from allocator.report.places import notebooks_folder
from allocator.services import Server, ServiceUnavailable, open_postgres, open_redis

if TYPE_CHECKING:
    # Statistics and all that they stand on take a second, which the lab does without.
    from allocator.bench.runs import Progress
    from allocator.report.artefacts import Artefacts

INJECTED = "# Parameters"
"""How the cell begins that papermill adds, with the parameters it was given."""

VARIABLES = {"redis": "REDIS_URL", "postgres": "DATABASE_URL"}
"""Backend -> where the URL of a server that runs already may stand."""

KINDS = ("memory", *VARIABLES)

TOLD_S = 0.5


class BadParameters(AllocatorError, ValueError):
    """A notebook was given a parameter that it does not have, or a value that it cannot take; nothing was run."""


def check_parameters(namespace: Mapping[str, Any]) -> None:
    """
    Refuse what was given to a notebook and is no parameter of it, or is ill-typed; for its first cell after these.

    The annotations of its parameters cell say what there is and of which type. No number may be below 0; `backends` are
    known ones.

    Args:
        namespace: `globals()` of the notebook.
    Raises:
        BadParameters: Names every parameter that is wrong, and those there are.
    """
    module = ModuleType("parameters")
    module.__dict__.update({name: value for name, value in namespace.items() if name != "__builtins__"})
    types = inspect.get_annotations(module)
    told = ", ".join(f"{name}: {kind.__name__ if isinstance(kind, type) else kind}" for name, kind in types.items())
    problems = [f"{name}: there is no such parameter" for name in injected_names(namespace) if name not in types]
    fields: dict[str, Any] = {name: (kind, ...) for name, kind in types.items()}
    model = create_model("Parameters", __config__=ConfigDict(strict=True, allow_inf_nan=False), **fields)
    given = {name: namespace[name] for name in types}
    try:
        model.model_validate(given)
    except ValidationError as error:
        problems += [
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}, not {each['input']!r}" for each in error.errors()
        ]
    problems += [f"{name}: must be at least 0, not {value!r}" for name, value in given.items() if _is_negative(value)]
    named = given.get("backends", [given["backend"]] if "backend" in given else [])
    if isinstance(named, list) and any(backend not in KINDS for backend in named):
        problems.append(
            f"backends: there are {', '.join(KINDS)}, not {named!r}; name a server that runs already by "
            f"{' or '.join(VARIABLES.values())} in the environment"
        )
    if problems:
        raise BadParameters(f"nothing was run. {'; '.join(problems)}. There are: {told}")


def injected_names(namespace: Mapping[str, Any]) -> list[str]:
    """The parameters that papermill was given, whether the notebook has them or not; none outside of papermill."""
    cells = [cell for cell in namespace.get("In", []) if cell.startswith(INJECTED)]
    return [
        target.id
        for cell in cells
        for node in ast.parse(cell).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]


def _is_negative(value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return any(isinstance(number, int | float) and not math.isnan(number) and number < 0 for number in numbers)


class Servers:
    """
    The servers of some backends: named by REDIS_URL and DATABASE_URL, or started, until the notebook's kernel ends.

    Args:
        backends: Of memory, redis, postgres.
    Attributes:
        urls: Backend -> URL of its queues, of those that are to be had; in the order given.
        missing: Backend -> why it is not.
    """

    def __init__(self, backends: Iterable[str]) -> None:
        self.urls: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        for backend in backends:
            try:
                self.urls[backend] = f"memory://{scratch_name('notebook')}" if backend == "memory" else _url(backend)
            except ServiceUnavailable as error:
                self.missing[backend] = str(error)

    @property
    def first(self) -> str:
        """
        The first backend that is to be had.

        Raises:
            ServiceUnavailable: None is; says why of each.
        """
        if not self.urls:
            raise ServiceUnavailable(f"nothing was measured: {'; '.join(self.missing.values()) or 'no backend named'}")
        return next(iter(self.urls))

    @property
    def places(self) -> dict[str, str]:
        """
        Backend -> what `allocator.bench.runs.run` takes for it.

        A server of its own is started for each run, which may then be set and harmed; one that is named by URL is used.
        """
        return {
            backend: url if os.environ.get(VARIABLES.get(backend, "")) else backend
            for backend, url in self.urls.items()
        }

    def url(self, backend: str) -> str:
        """
        Of a backend that the notebook cannot do without.

        Raises:
            ServiceUnavailable: It is not to be had; says why.
        """
        if backend in self.missing:
            raise ServiceUnavailable(self.missing[backend])
        return self.urls[backend]

    def tell_missing(self, artefacts: "Artefacts", measures: Iterable[str]) -> None:
        """Say of each backend that is not to be had that these were not measured, and why."""
        for backend, reason in self.missing.items():
            for measure in measures:
                artefacts.not_measured(
                    f"{backend}/{measure}", reason, f"allocator report --backends {backend}, once there is a server"
                )


_started: dict[str, Server] = {}


def _url(backend: str) -> str:
    # A cell that is run again finds the server of the first time.
    if backend not in _started:
        server = open_redis() if backend == "redis" else open_postgres()
        atexit.register(server.close)
        _started[backend] = server
    return _started[backend].url


def watch(title: str) -> "Callable[[Progress], None]":
    """
    One line below the cell that says how far a run is: `run(workload, backend, say=watch("steady"))`.

    An executed notebook keeps the last of it.
    """
    tell = watch_each(title)
    return lambda progress: tell("", progress)


def watch_each(title: str) -> "Callable[[str, Progress], None]":
    """The same for series of runs, which say which of them it is that is so far."""
    began = time.monotonic()
    line: Any = display(_Line(f"{title}: preparing"), display_id=True)  # type: ignore[no-untyped-call]
    said = 0.0

    def say(which: str, progress: "Progress") -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < TOLD_S and progress.phase != "judging":
            return
        said = now
        waiting = "" if progress.backlog is None else f", {progress.backlog:,} wait"
        of = f"{progress.done:,} of {progress.total:,} jobs done{waiting}" if progress.total else ""
        named = ", ".join(filter(None, [title, which]))
        line.update(_Line(f"{named}: {progress.phase}, {of}; {now - began:.0f} s"))

    return say


class _Line:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def profile(name: str) -> dict[str, dict[str, Any]]:
    """
    Notebook -> parameters, of a profile of `notebooks/profiles.toml`: smoke, ci or full. Others keep their defaults.

    Raises:
        ValueError: There is no such profile; lists those there are.
    """
    profiles: dict[str, dict[str, dict[str, Any]]] = tomllib.loads(
        (notebooks_folder() / "profiles.toml").read_text("utf-8")
    )
    if name not in profiles:
        raise ValueError(f"profile: there is no {name!r}; there are {', '.join(profiles)}")
    return profiles[name]
