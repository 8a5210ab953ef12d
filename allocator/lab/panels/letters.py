"""The panel *Dead letters*: what was given up and why, put back or purged."""

import html
import time
from collections.abc import Callable
from datetime import UTC, datetime

import ipywidgets as widgets  # type: ignore[import-untyped]

from allocator.domain.deadletter import Attempt, DeadLetter
from allocator.lab.panels.acting import Acting, asked
from allocator.lab.panels.looks import button, panel
from allocator.queue.base import Queue

SHOWN = 100
LOOK_S = 2.0
"""How often the list is looked up by itself, while nothing in it is chosen."""


class LettersPanel:
    """
    Args:
        queue: Whose dead letters these are; None while there is none.
        write: Whether they may be put back and purged.
        note: Told what was done: kind, and in words.
    """

    def __init__(
        self, acting: Acting, queue: Callable[[], Queue | None], write: bool, note: Callable[[str, str], None]
    ) -> None:
        self._acting, self._queue, self._note = acting, queue, note
        self._letters: dict[str, DeadLetter] = {}
        self._looked_at = 0.0
        self._dead: int | None = None
        """As the queue counts them, when they were last looked up."""
        self._type = widgets.Text(placeholder="any type", description="Type", tooltip="Only jobs of this type")
        self._error = widgets.Text(placeholder="any error", description="Error", tooltip="Only errors with this text")
        self._look = widgets.Button(description="Look up", icon="search", tooltip="Read them again, as filtered")
        self._list = widgets.SelectMultiple(
            options=[], rows=7, layout={"width": "100%"}, tooltip="Choose some: Shift or Ctrl for more than one"
        )
        self._list.add_class("allocator-lab-letters")
        self._told, self._details = widgets.HTML(), widgets.HTML()
        self._details.add_class("allocator-lab-letter")
        self._put_back = button("Put back selected", "undo", "Each gets a fresh budget of attempts", "put-back")
        self._put_back_all = button("Put back all", "undo", "All that the filter lets through", "put-back-all")
        self._purge = button("Purge", "trash", "Delete the selected ones, or else all that the filter lets through",
                              "purge")  # fmt: skip
        acting.on_click(self._look, "looking up dead letters", self._read)
        acting.on_click(
            self._put_back, "putting back", lambda: self._each(self._asked_queue().requeue_dead, "put back")
        )
        acting.on_click(
            self._put_back_all, "putting back all", lambda: self._all(self._asked_queue().requeue_dead, "put back")
        )
        question = asked(
            acting,
            self._purge,
            "They are deleted for good: those selected, or else all that the filter lets through. Purge?",
            "purging",
            self._purge_them,
        )
        for field in (self._type, self._error):
            # With Enter, or when it is left.
            field.continuous_update = False
            acting.on_change(field, lambda _: acting.quietly(self._read))
        self._list.observe(lambda _: self._show_chosen(), names="value")
        actions = [widgets.HBox([self._put_back, self._put_back_all, self._purge]), question] if write else []
        self.box = panel(
            "Dead letters",
            "jobs given up, and kept" + ("" if write else "; read only: pass write=True to put back"),
            [widgets.HBox([self._type, self._error, self._look]), self._told, self._list, *actions, self._details],
        )
        self.refresh()

    def refresh(self, dead: int | None = None) -> None:
        """Enable what can be used now; look the list up where their number has changed and nothing is chosen."""
        there = self._queue() is not None
        self._acting.enable([self._look], there)
        self._acting.enable([self._put_back], there and bool(self._list.value))
        self._acting.enable([self._put_back_all, self._purge], there and bool(self._letters))
        if not there:
            self._letters, self._dead = {}, None
            self._list.options, self._told.value = [], ""
        elif dead not in (None, self._dead) and not self._list.value and time.monotonic() - self._looked_at >= LOOK_S:
            self._looked_at, self._dead = time.monotonic(), dead
            self._acting.quietly(self._read)

    def _read(self) -> str:
        queue = self._asked_queue()
        letters = queue.dead_letters(SHOWN, **self._filter())
        self._letters = {letter.job.id: letter for letter in letters}
        chosen = [id for id in self._list.value if id in self._letters]
        self._list.options = [(_line(letter), letter.job.id) for letter in letters]
        self._list.value = chosen
        self._dead = dead = queue.counts()["dead"]
        if len(letters) == dead:
            self._told.value = "All of them." if dead else "None."
        else:
            which = "that the filter lets through" if any(self._filter().values()) else "the oldest"
            self._told.value = f"{len(letters):,} of {dead:,}: {which}."
        return f"{len(letters)} dead letters"

    def _filter(self) -> dict[str, str | None]:
        return {"type": self._type.value.strip() or None, "error": self._error.value or None}

    def _asked_queue(self) -> Queue:
        queue = self._queue()
        if queue is None:
            raise RuntimeError("nothing runs; press Start first")
        return queue

    def _each(self, deed: Callable[[str], int], told: str) -> str:
        chosen = list(self._list.value)
        return self._done(sum(deed(id) for id in chosen), told)

    def _all(self, deed: Callable[..., int], told: str) -> str:
        return self._done(deed(all=True, **self._filter()), told)

    def _purge_them(self) -> str:
        purge = self._asked_queue().purge_dead
        return self._each(purge, "purged") if self._list.value else self._all(purge, "purged")

    def _done(self, count: int, told: str) -> str:
        said = f"{count} {told}"
        self._note(told, said)
        self._list.value = ()
        self._read()
        return said

    def _show_chosen(self) -> None:
        self.refresh()
        chosen = [self._letters[id] for id in self._list.value if id in self._letters]
        self._details.value = _history(chosen[0]) if len(chosen) == 1 else ""


def _line(letter: DeadLetter) -> str:
    attempts = f"{letter.attempt_count} attempt{'' if letter.attempt_count == 1 else 's'}"
    return f"{_clock(letter.dead_at)}   {letter.job.type}   {attempts}   {letter.error[:90]}"


def _history(letter: DeadLetter) -> str:
    told = f"job {letter.job.id}, type {letter.job.type}, priority {letter.job.priority}"
    return f"<b>{html.escape(told)}</b>" + "".join(map(_attempt, letter.attempts))


def _attempt(attempt: Attempt) -> str:
    told = f"attempt {attempt.number} at {_clock(attempt.failed_at)} by {attempt.worker}: {attempt.error}"
    trace = f"<pre>{html.escape(attempt.traceback)}</pre>" if attempt.traceback else ""
    return f"<div>{html.escape(told)}</div>{trace}"


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"
