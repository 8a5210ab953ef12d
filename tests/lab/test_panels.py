"""The panels without a browser: what buttons do, what is shown of it, and what a lab on a live queue leaves alone."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from allocator import Job, Queue
from allocator.bench.scratch import scratch_name
from allocator.bench.workload import Workload
from allocator.lab import Lab
from allocator.lab.figure import HEIGHT_PX, WIDTH_PX, LiveFigure
from allocator.lab.panels.acting import Acting
from allocator.lab.reading import Reading
from allocator.queue.opening import open_queue
from tests.lab.waiting import until


def each(widget: Any) -> Iterator[Any]:
    """A widget and all within it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from each(child)


def found(lab: Lab, name: str) -> Any:
    """The one of class `allocator-lab-NAME`."""
    (widget,) = [each for each in each_of(lab) if f"allocator-lab-{name}" in each._dom_classes]
    return widget


def each_of(lab: Lab) -> list[Any]:
    """All that a lab shows."""
    return list(each(lab.box))


@pytest.fixture
def url() -> str:
    """Of a queue in process, that another object may open too."""
    return f"memory://{scratch_name('lab')}"


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    """With three dead letters of two types."""
    with open_queue(url) as queue:
        for type, error in (("json", "no brace"), ("json", "no colon"), ("media", "no header")):
            queue.enqueue(Job(type=type))
            lease = queue.dequeue(timeout=0)
            assert lease is not None
            queue.nack(lease, error=error, traceback=f"Traceback: {error}", dead=True)
        yield queue


@pytest.fixture
def lab(url: str, queue: Queue) -> Iterator[Lab]:
    """A lab that may write, on that queue."""
    lab = Lab(url, write=True)
    yield lab
    lab.close()


def look_up(lab: Lab) -> Any:
    """The list, once it holds what the queue has."""
    letters = found(lab, "letters")
    until(lambda: lab.tick() or letters.options, "the list is looked up")
    return letters


def test_a_lab_on_a_live_queue_has_neither_load_nor_workers(url: str, queue: Queue) -> None:
    """And, unless it may write, nothing that changes the queue."""
    lab = Lab(url)
    try:
        look_up(lab)
        names = {name for widget in each_of(lab) for name in widget._dom_classes}
    finally:
        lab.close()

    assert {"allocator-lab-live", "allocator-lab-dead-letters"} <= names
    changing = ("workload", "workers", "record", "kill", "put-back", "put-back-all", "purge", "start")
    assert not names & {f"allocator-lab-{name}" for name in changing}
    assert queue.counts()["dead"] == 3


def test_a_dead_letter_shows_its_history_and_is_put_back(lab: Lab, queue: Queue) -> None:
    """The one that was chosen; the others stay."""
    letters = look_up(lab)

    letters.value = (letters.options[1][1],)
    history = found(lab, "letter").value
    found(lab, "put-back").click()

    until(lambda: queue.counts()["ready"] == 1, "it waits")
    assert "no colon" in history
    assert "<pre>Traceback: no colon</pre>" in history
    until(lambda: len(letters.options) == 2, "the list shows the others")


def test_only_what_the_filter_lets_through_is_purged_and_only_after_a_question(lab: Lab, queue: Queue) -> None:
    """No as an answer changes nothing."""
    letters = look_up(lab)
    type_field = next(widget for widget in each_of(lab) if getattr(widget, "description", "") == "Type")
    yes = next(widget for widget in each_of(lab) if getattr(widget, "description", "") == "Yes: Purge")
    no = next(widget for widget in each_of(lab) if getattr(widget, "description", "") == "No")
    type_field.value = "json"
    until(lambda: len(letters.options) == 2, "the filter holds")

    found(lab, "purge").click()
    no.click()
    before = queue.counts()["dead"]
    yes.click()

    until(lambda: queue.counts()["dead"] == 1, "those of the type are gone")
    assert before == 3
    assert [letter.job.type for letter in queue.dead_letters()] == ["media"]


def works(lab: Lab) -> bool:
    """Whether jobs were done when it was last looked at."""
    return lab.session is not None and bool(lab.session.reader.latest.throughput_per_s)


@pytest.mark.service
@pytest.mark.redis
def test_a_lab_from_start_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second start changes nothing; what was done is exported; nothing is left, nor shown as if it still were."""
    monkeypatch.setenv("ALLOCATOR_REPORTS", str(tmp_path))
    lab = Lab()
    try:
        found(lab, "start").click()
        found(lab, "start").click()
        until(
            lambda: lab.tick() or (lab.session is not None and lab.session.reader.latest.throughput_per_s), "it works"
        )
        _, kill, *_ = found(lab, "worker-0").children
        kill.click()
        until(lambda: lab.tick() or lab.session.workers()[0].restarts, "it is replaced")
        found(lab, "export").click()
        until(lambda: list(tmp_path.glob("lab-*.yaml")), "it is exported")
        found(lab, "stop").click()
        until(lambda: lab.tick() or not found(lab, "start").disabled, "it has stopped")
        names = {name for widget in each_of(lab) for name in widget._dom_classes}
    finally:
        lab.close()

    (file,) = tmp_path.glob("lab-*.yaml")
    assert [fault.kind for fault in Workload.from_yaml(file).faults] == ["kill_worker"]
    assert "allocator-lab-worker-0" not in names


def test_what_fails_in_the_background_is_shown_until_something_goes_well() -> None:
    """A button that could not do it says why, and can be pressed again."""
    refreshed: list[bool] = []
    acting = Acting(lambda: refreshed.append(True))
    button, outcome = found_button(), [OSError("no <room>"), None]

    def deed() -> None:
        if (error := outcome.pop(0)) is not None:
            raise error

    acting.on_click(button, "trying", deed)
    button.click()
    until(lambda: refreshed == [True], "it was tried")
    failed, was_disabled = acting.problem.value, button.disabled
    button.click()
    until(lambda: refreshed == [True, True], "it was tried again")
    acting.stop()

    assert failed == '<div role="alert">OSError: no &lt;room&gt;</div>'
    assert not was_disabled
    assert (acting.problem.value, acting.told.value) == ("", "trying: done")


def found_button() -> Any:
    """One to press."""
    import ipywidgets

    return ipywidgets.Button(description="Try")


def test_the_figure_is_drawn_for_any_reading_and_keeps_its_size() -> None:
    """Also where nothing is known, and beyond what was there before; where something is known it differs."""
    figure = LiveFigure()
    nothing = figure.draw([])
    calm = [Reading(at / 2, arrival_per_s=10.0, backlog=1, wait_s_p50=0.001) for at in range(4)]
    wild = [*calm, Reading(2.0, arrival_per_s=9999.0, backlog=10**7, wait_s_p50=500.0), Reading(2.5)]

    pictures = [nothing, figure.draw(calm), figure.draw(wild)]

    assert {Image.open(io.BytesIO(png)).size for png in pictures} == {(WIDTH_PX, HEIGHT_PX)}
    assert len(set(pictures)) == 3
