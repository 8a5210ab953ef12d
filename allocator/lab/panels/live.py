"""The panel *Live*: the last minute as a figure, and what it comes to now as numbers."""

from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]

from allocator.lab.figure import WIDTH_PX, LiveFigure, duration
from allocator.lab.panels.looks import numbers, panel
from allocator.lab.reading import Reader, Reading

UNKNOWN = "–"


class LivePanel:
    """
    For the one thread that looks.

    Args:
        is_ours: Whether those who work on the queue can be asked, and not the queue alone.
    """

    def __init__(self, is_ours: bool) -> None:
        self._figure = LiveFigure()
        self._is_clear = True
        self._numbers = widgets.HTML(_told(Reading(0.0)))
        # Fixed, so that nothing on the page moves when it changes.
        self._image = widgets.Image(
            value=self._figure.draw([]), format="png", layout={"width": f"{WIDTH_PX}px", "max_width": "100%"}
        )
        self._image.add_class("allocator-lab-figure")
        self._note = widgets.HTML()
        told = "drawn twice a second" if is_ours else "drawn twice a second; – is not known to the queue itself"
        self.box = panel("Live", told, [self._note, self._numbers, self._image])

    def tick(self, reader: Reader) -> None:
        """Look, and draw."""
        self._is_clear = False
        self._numbers.value = _told(reader.look())
        self._image.value = self._figure.draw(list(reader.readings))

    def clear(self) -> None:
        """Nothing is looked at."""
        if not self._is_clear:
            self._is_clear = True
            self._numbers.value, self._image.value = _told(Reading(0.0)), self._figure.draw([])

    def say(self, note: str) -> None:
        """Why nothing is drawn; empty: it is."""
        self._note.value = note


def _told(reading: Reading) -> str:
    entries: list[tuple[str, str, str, str]] = [
        ("rate", "arriving", _per_s(reading.arrival_per_s), "Jobs that the queue took, in the last second"),
        ("throughput", "done", _per_s(reading.throughput_per_s), "Jobs done, in the last second"),
        (
            "retries",
            "retried",
            _per_s(reading.retries_per_s),
            "Failed attempts that another follows, in the last second",
        ),
        ("backlog", "backlog", _count(reading.backlog), "Jobs that wait; – while the server does not answer"),
        ("dead", "dead letters", _count(reading.dead), "Jobs given up and kept"),
    ]
    for name, label, value_s, meaning in (
        ("wait-p50", "wait p50", reading.wait_s_p50, "Half of the jobs waited less: due until started"),
        ("wait-p99", "wait p99", reading.wait_s_p99, "99 in 100 waited less; needs 100 jobs in 5 s"),
        ("sojourn-p50", "sojourn p50", reading.sojourn_s_p50, "Half of the jobs took less: arrival until done"),
        ("sojourn-p99", "sojourn p99", reading.sojourn_s_p99, "99 in 100 took less; needs 100 jobs in 5 s"),
    ):
        entries.append((name, label, UNKNOWN if value_s is None else duration(value_s), meaning))
    if reading.refused:
        entries.append(("refused", "not taken", _count(reading.refused), "Jobs that the queue could not take, so far"))
    return numbers(entries)


def _per_s(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}/s"


def _count(value: Any) -> str:
    return UNKNOWN if value is None else f"{value:,}"
