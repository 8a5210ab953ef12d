"""What a figure depends on besides the code: machine, load, versions. What a platform lacks is "unavailable"."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

UNAVAILABLE = "unavailable"


def fingerprint() -> dict[str, str]:
    """Label -> value, for a table."""
    return {
        "commit": _commit(),
        "Python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count() or UNAVAILABLE),
        "memory": _memory(),
        **{name: _version(name) for name in ("msgspec", "redis", "hiredis", "psycopg", "psycopg-binary")},
    }


def load_average() -> str:
    """Of the last minute; above 0.5 before a run the machine was not quiet."""
    try:
        return f"{os.getloadavg()[0]:.2f}"
    except OSError:
        return UNAVAILABLE


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return UNAVAILABLE


def _commit() -> str:
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return UNAVAILABLE
    return f"{commit} (with uncommitted changes)" if changed else commit


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or UNAVAILABLE


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (ValueError, OSError):
        return UNAVAILABLE
