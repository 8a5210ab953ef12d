"""What buttons and sliders do: never in the kernel's own thread where it may take long, and never failing unseen."""

import html
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]


class Acting:
    """
    Does what was asked for, one thing after another, and shows what went wrong.

    Args:
        after: Called when something was done, whichever way it went.
    Attributes:
        problem: A line of the lab, empty while nothing is wrong. Of class `allocator-lab-problem`.
        box: Both lines.
        told: A line that says what is being done, or was done last. Of class `allocator-lab-told`.
    """

    def __init__(self, after: Callable[[], None]) -> None:
        self._after = after
        self.problem, self.told = widgets.HTML(), widgets.HTML()
        self.problem.add_class("allocator-lab-problem")
        self.told.add_class("allocator-lab-told")
        # Stays in sight, whichever panel one works at.
        self.box = widgets.VBox([self.told, self.problem])
        self.box.add_class("allocator-lab-lines")
        self._thread = ThreadPoolExecutor(1, "lab-acting")
        self._lock = threading.Lock()
        self._busy: list[Any] = []
        """Buttons whose deed is not over."""

    def on_click(self, button: Any, told: str, deed: Callable[[], object]) -> None:
        """
        Let a button do it, disabled meanwhile.

        Args:
            told: What is then being done, as a sentence without a full stop.
        """

        def act(_: Any) -> None:
            self._busy.append(button)
            button.disabled = True
            self._thread.submit(self._act, told, deed, button)

        button.on_click(act)

    def on_change(self, widget: Any, deed: Callable[[Any], object]) -> None:
        """Let a control do it with each new value of it, at once."""

        def act(change: Any) -> None:
            self.clear()
            self.guard(lambda: deed(change["new"]))

        widget.observe(act, names="value")

    def quietly(self, deed: Callable[[], object]) -> None:
        """Do it after what is being done, and say nothing of it unless it fails."""
        self._thread.submit(lambda: self.guard(deed))

    def guard(self, deed: Callable[[], object]) -> None:
        """Do it now, and show what went wrong."""
        try:
            deed()
        except Exception as error:
            self.fail(error)

    def fail(self, error: BaseException | str) -> None:
        """Show what went wrong."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._set(self.problem, f'<div role="alert">{html.escape(text)}</div>')

    def clear(self) -> None:
        """Nothing is wrong any more."""
        self._set(self.problem, "")

    def say(self, text: str) -> None:
        """Say what is being done, or was."""
        self._set(self.told, html.escape(text))

    def enable(self, controls: Iterable[Any], enabled: bool) -> None:
        """Disable what cannot be used now, or the other way round."""
        for control in controls:
            control.disabled = not enabled or control in self._busy

    def stop(self) -> None:
        """Wait for what is being done, and do nothing more."""
        self._thread.shutdown(cancel_futures=True)

    def _act(self, told: str, deed: Callable[[], object], button: Any) -> None:
        self.say(f"{told}…")
        try:
            result = deed()
        except Exception as error:
            self.fail(error)
            self.say(f"{told}: failed")
        else:
            self.clear()
            self.say(result if isinstance(result, str) else f"{told}: done")
        finally:
            self._busy.remove(button)
            button.disabled = False
            self.guard(self._after)

    def _set(self, widget: Any, value: str) -> None:
        with self._lock:
            widget.value = value


def asked(acting: Acting, button: Any, question: str, told: str, deed: Callable[[], object]) -> Any:
    """A box with the question whether a button is to do harm; seen once the button is clicked, until it is answered."""
    yes = widgets.Button(description=f"Yes: {button.description}", button_style="danger")
    no = widgets.Button(description="No")
    box = widgets.HBox([widgets.HTML(html.escape(question)), yes, no], layout={"display": "none"})

    def show(display: str) -> None:
        box.layout.display = display

    button.on_click(lambda _: show("flex"))
    acting.on_click(yes, told, deed)
    for answer in (yes, no):
        answer.on_click(lambda _: show("none"))
    return box
