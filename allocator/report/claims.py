"""The claims of a report: read from TOML, each refused by name where it cannot be decided."""

import operator
import re
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from allocator.bench.checker.verdicts import Promise
from allocator.domain.errors import AllocatorError
from allocator.report.numbers import shown

BACKENDS = {"memory": "in process", "redis": "Redis", "postgres": "PostgreSQL"}

COMPONENTS = {
    "memory": "Queue in process",
    "redis": "Queue on Redis",
    "postgres": "Queue on PostgreSQL",
    "supervisor": "Supervisor",
    "database": "Database",
    "ingest": "Files in",
    "api": "API",
    "end-to-end": "End to end",
}
"""In the order of the page."""

OWN_COMPONENT = "yours"
"""Of claims that a file given with --claims makes of something else."""

TARGET = re.compile(r"(<=|>=|<|>|==)\s*(-?[0-9.]+(?:e-?[0-9]+)?)\s*(\S.*)?")
_MEETS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq,
}  # fmt: skip
_SIGNS = {"<=": "≤", ">=": "≥", "==": "="}


class BadClaim(AllocatorError, ValueError):
    """A file of claims cannot be used; the text names file, entry and field."""


class Target(BaseModel):
    """What a figure must be."""

    model_config = ConfigDict(frozen=True)

    comparison: str
    value: float
    unit: str = ""

    def met_by(self, value: float) -> bool:
        return _MEETS[self.comparison](value, self.value)

    @property
    def figure(self) -> str:
        """The number alone, for a sentence."""
        return shown(self.value, self.unit)

    def __str__(self) -> str:
        return f"{_SIGNS.get(self.comparison, self.comparison)} {self.figure}"


def _target(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = TARGET.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{value!r} is no target; write a comparison, a number and a unit, as '<= 0.1 s'")
    return {"comparison": found[1], "value": float(found[2]), "unit": (found[3] or "").strip()}


class Claim(BaseModel):
    """
    One claim, as `claims.toml` explains it; that of several backends has been made one for each.

    Attributes:
        backend: memory, redis or postgres; None where it is of no single one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    component: str
    text: Annotated[str, Field(min_length=1)]
    measure: str | None = None
    target: Annotated[Target | None, BeforeValidator(_target)] = None
    tests: tuple[str, ...] = ()
    promise: Promise | None = None
    compared: str | None = None
    gates: bool = True
    origin: str = ""
    reason: str = ""
    command: str = ""
    backend: str | None = None

    @model_validator(mode="after")
    def _decidable(self) -> Self:
        kinds = [name for name, given in self._kinds().items() if given]
        if len(kinds) != 1:
            said = " and ".join(kinds) or "none"
            raise ValueError(f"one of measure, tests, promise and compared decides a claim; this one has {said}")
        if (self.measure is None) != (self.target is None):
            raise ValueError("measure and target go together")
        if self.promise and self.backend is None:
            raise ValueError("promise: runs are of a backend; give backends")
        if self.component not in (*COMPONENTS, OWN_COMPONENT):
            known = ", ".join((*COMPONENTS, OWN_COMPONENT))
            raise ValueError(f"component: {self.component!r} is none of {known}")
        return self

    def _kinds(self) -> dict[str, bool]:
        return {
            "measure": self.measure is not None,
            "tests": bool(self.tests),
            "promise": self.promise is not None,
            "compared": self.compared is not None,
        }

    @property
    def sentence(self) -> str:
        """The text, with its target in it."""
        return self.text.replace("{target}", self.target.figure if self.target else "")

    @property
    def how(self) -> str:
        """The command that measures it again."""
        if self.command:
            return self.command
        if self.tests:
            only = f" -k {_TEST_NAMES[self.backend]}" if self.backend else ""
            return f"scripts/test {' '.join(self.tests)}{only}"
        only = f" --backends {self.backend}" if self.backend else ""
        return f"allocator report --baseline REF{only}" if self.compared else f"allocator report{only}"


_TEST_NAMES = {"memory": "inprocess", "redis": "'redis or valkey'", "postgres": "postgres"}


def load_claims(*own: Path) -> list[Claim]:
    """
    The claims of the product, then those of these files.

    Raises:
        BadClaim: A file cannot be read, or an entry of it cannot be used.
    """
    product = resources.files("allocator.report") / "claims.toml"
    claims = _read(product.read_text("utf-8"), "claims.toml")
    for path in own:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadClaim(f"{path}: these claims cannot be read: {error}") from error
        claims += _read(text, str(path))
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise BadClaim(f"claim {claim.id}: id: there are two of this name; give each its own")
        seen.add(claim.id)
    return claims


def _read(text: str, file: str) -> list[Claim]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadClaim(f"{file}: this is no TOML: {error}") from error
    entries = document.pop("claim", [])
    if document or not isinstance(entries, list):
        raise BadClaim(f"{file}: it holds [[claim]] tables and nothing else, not {', '.join(document) or 'claim = …'}")
    return [claim for number, entry in enumerate(entries, 1) for claim in _expand(entry, number, file)]


def _expand(entry: dict[str, Any], number: int, file: str) -> list[Claim]:
    where = f"{file}: claim {number} ({entry.get('id', 'without id')})"
    entry = dict(entry)
    backends = entry.pop("backends", None)
    if "backend" in entry:
        raise BadClaim(f'{where}: backend: write backends = ["{entry["backend"]}"]')
    if backends is None:
        return [_checked(entry, where)]
    if "component" in entry:
        raise BadClaim(f"{where}: component: with backends each claim belongs to its backend's; give one of the two")
    if not isinstance(backends, list) or not backends or not set(backends) <= BACKENDS.keys():
        raise BadClaim(f"{where}: backends: must be a list of {', '.join(BACKENDS)}, not {backends!r}")
    claims = []
    for backend in backends:
        filled: dict[str, Any] = {"component": backend, "backend": backend}
        for field, value in entry.items():
            named = BACKENDS[backend] if field == "text" else backend
            filled[field] = value.replace("{backend}", named) if isinstance(value, str) else value
        if isinstance(filled.get("id"), str):
            filled["id"] = f"{backend}-{filled['id']}"
        claims.append(_checked(filled, where))
    return claims


def _checked(entry: dict[str, Any], where: str) -> Claim:
    try:
        return Claim.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise BadClaim(f"{where}: {field + ': ' if field else ''}{said}") from error
