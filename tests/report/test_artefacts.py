"""What experiments leave for the report."""

import math
from pathlib import Path

import pandas as pd
import pytest

from allocator.report.artefacts import Artefacts, BadMeasure, read_measures, read_tables


def test_a_measure_is_read_back_as_it_was_said(tmp_path: Path) -> None:
    """Every notebook writes a file of its own, at once; the report reads them all."""
    Artefacts(tmp_path, "10-latency").measure("redis/wait_p99_s", 0.012, "s", n=5, low=0.011, high=0.013, level=0.95)
    Artefacts(tmp_path, "20-throughput").not_measured("redis/knee_per_s", "too few rates", "allocator report")

    found = read_measures(tmp_path)

    assert list(found) == ["redis/wait_p99_s", "redis/knee_per_s"]
    assert (found["redis/wait_p99_s"].value, found["redis/wait_p99_s"].level) == (0.012, 0.95)
    assert (found["redis/knee_per_s"].value, found["redis/knee_per_s"].reason) == (None, "too few rates")


def test_a_notebook_that_runs_again_replaces_what_it_measured(tmp_path: Path) -> None:
    """Nothing of an earlier execution is left over."""
    Artefacts(tmp_path, "10-latency").measure("redis/old", 1, "s")

    Artefacts(tmp_path, "10-latency").measure("redis/new", 2, "s")

    assert list(read_measures(tmp_path)) == ["redis/new"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_figure_is_refused(tmp_path: Path, value: float) -> None:
    """There is a word for what could not be measured."""
    with pytest.raises(BadMeasure, match=r"redis/wait_p99_s.*not_measured"):
        Artefacts(tmp_path, "10-latency").measure("redis/wait_p99_s", value, "s")


def test_a_run_that_is_elsewhere_is_refused(tmp_path: Path) -> None:
    """A figure whose raw rows are not in the report could not be verified."""
    with pytest.raises(BadMeasure, match="no run 20260101-x"):
        Artefacts(tmp_path, "10-latency").measure("redis/wait_p99_s", 1.0, "s", runs=["20260101-x"])


def test_a_damaged_file_of_measures_is_named(tmp_path: Path) -> None:
    """And what to do about it."""
    Artefacts(tmp_path, "10-latency")
    (tmp_path / "measures" / "10-latency.json").write_text("[{", "utf-8")

    with pytest.raises(BadMeasure, match=r"10-latency\.json.*run the notebook again"):
        read_measures(tmp_path)


def test_tables_of_one_name_are_read_as_one(tmp_path: Path) -> None:
    """A notebook that is run for each backend leaves one each."""
    for backend in ("memory", "redis"):
        Artefacts(tmp_path, f"20-throughput-{backend}").table("load_latency", pd.DataFrame({"backend": [backend]}))

    found = read_tables(tmp_path, "load_latency")

    assert found is not None
    assert list(found["backend"]) == ["memory", "redis"]
    assert read_tables(tmp_path, "scaling") is None
