"""What stands below a figure is what was measured, and not what the drawing of it needed."""

from pathlib import Path

import numpy as np

from allocator.report.artefacts import Artefacts
from allocator.report.numbers import shown
from allocator.report.pictures import latencies, throughputs
from allocator.report.reading import Report
from tests.bench.statistics.runs import one_server
from tests.report.builders import a_report, a_run


def test_rates_below_a_figure_are_those_of_the_schedule(tmp_path: Path) -> None:
    """An axis that ends at a whole second, or once everything is done, makes no rate smaller."""
    report = Report(a_report(tmp_path, run := a_run(tmp_path / "runs", "r1")))

    caption = throughputs(report)[0][0].caption

    assert f"jobs arrived at {shown(run.summary.offered_per_s, 'jobs/s')} " in caption
    assert f"were done at {shown(run.summary.throughput_per_s, 'jobs/s')} on average" in caption


def test_a_heatmap_of_few_jobs_shows_all_of_them(tmp_path: Path) -> None:
    """Wherever they lie: an hour is not cut off at a second."""
    rows = one_server(np.random.default_rng(1), 20, 0.5, service_s=100.0)
    run = a_run(tmp_path / "runs", "r1", rows=rows)
    Artefacts(a_report(tmp_path), "n").measure("memory/sojourn_p95_s", 1.0, "s", runs=[run])

    caption = latencies(Report(tmp_path))[0][1].caption

    assert f"between {shown(run.jobs['sojourn_s'].min(), 's')} and {shown(run.jobs['sojourn_s'].max(), 's')}" in caption
