"""The package alone, without a checkout: it carries the notebooks, the claims and the page's templates."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from allocator.report.results import read_results

ROOT = Path(__file__).parents[2]


@pytest.mark.full
def test_a_report_is_made_from_a_wheel(tmp_path: Path) -> None:
    """In a folder of its own; the tests, which are not in a wheel, are said not to have been run."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    away = tmp_path / "away"
    away.mkdir()

    made = subprocess.run(
        [sys.executable, "-m", "allocator.cli", "report", "--backends", "memory"],
        cwd=away,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )

    (folder,) = (each for each in (away / "reports").iterdir() if each.is_dir())
    found = read_results(folder)
    assert (made.returncode, found.problems) == (found.exit_status, [])
    assert (folder / "report.html").exists()
    assert found.tests.status == "not run"
    reasons = {claim.reason for claim in found.claims if claim.id == "memory-basic"}
    assert reasons == {"the tests come with a checkout, not with the package"}
    assert next(claim for claim in found.claims if claim.id == "memory-overall-mean").value is not None
