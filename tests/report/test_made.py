"""Reports, found by where they are."""

from pathlib import Path

import pytest

from allocator.report.made import Made, NoReport, newest_report


def a_made(folder: Path) -> Path:
    """A folder with what is known of a report's making."""
    folder.mkdir()
    Made(id=folder.name, profile="smoke", started_at=0.0, command="allocator report").write(folder)
    return folder


def test_the_newest_report_is_found_by_its_name(tmp_path: Path) -> None:
    """A folder that a single notebook left holds no report, and is passed over."""
    a_made(tmp_path / "20260101T000000-smoke-aaaa")
    newest = a_made(tmp_path / "20260102T000000-smoke-bbbb")
    (tmp_path / "20260103T000000-10-latency-cccc").mkdir()

    assert newest_report(tmp_path) == newest


def test_where_there_is_no_report_it_says_what_makes_one(tmp_path: Path) -> None:
    """Whether a folder of reports or a report was asked for."""
    with pytest.raises(NoReport, match="holds no report; `allocator report` makes one"):
        newest_report(tmp_path)
    with pytest.raises(NoReport, match="holds no report; `allocator report` makes one"):
        Made.read(tmp_path)
