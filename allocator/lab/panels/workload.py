"""The panel *Workload*: what arrives and what it takes, as controls that act on the load while it runs."""

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]

from allocator.lab.panels.acting import Acting
from allocator.lab.panels.looks import button, panel
from allocator.lab.session import BACKENDS, WORKERS, Session
from allocator.lab.settings import Settings

MAX_RATE, MAX_WORKERS = 1000, 16
_WIDE = {"description_width": "130px"}
_LAYOUT = {"width": "410px"}


class WorkloadPanel:
    """
    Args:
        start, stop: The session; start is given backend, settings and workers.
        session: The one that runs, if one does.
    """

    def __init__(
        self,
        acting: Acting,
        backend: str,
        start: Callable[[str, Settings, int], str],
        stop: Callable[[], str],
        session: Callable[[], Session | None],
    ) -> None:
        self._acting = acting
        self._session = session
        self._follows = False
        """Whether the slider is being set to what there is, which must not change it."""
        first = Settings()
        self._backend = widgets.Dropdown(
            options=[(label, name) for name, label in BACKENDS.items()],
            value=backend,
            description="Backend",
            tooltip="Where the queue is; a server is started for it",
            style=_WIDE,
            layout=_LAYOUT,
        )
        self._arrivals = widgets.Dropdown(
            options=[("at random (Poisson)", "poisson"), ("evenly spaced", "constant"), ("in bursts of 2 s", "onoff")],
            value=first.arrivals,
            description="Arrivals",
            tooltip="How jobs arrive, at the same rate on average",
            style=_WIDE,
            layout=_LAYOUT,
        )
        self._rate = _slider("Rate, jobs/s", int(first.rate_per_s), MAX_RATE, 10, "Jobs that arrive each second")
        self._rate.add_class("allocator-lab-rate-slider")
        self._service = _slider(
            "Service time, ms", int(first.service_s * 1e3), 200, 1, "How long an attempt works, on average; exponential"
        )
        self._failing = _slider(
            "Failing attempts, %", int(first.failing_share * 100), 100, 5, "Share of the attempts that raise an error"
        )
        self._failing.add_class("allocator-lab-failing-slider")
        self._retries = _slider(
            "Retries", first.max_retries, 5, 1, "Attempts after the first, before a job becomes a dead letter"
        )
        self._urgent = _slider(
            "Urgent jobs, %", int(first.urgent_share * 100), 100, 5, "Share of the jobs with priority 100, not 0"
        )
        self._workers = _slider("Workers", WORKERS, MAX_WORKERS, 1, "Processes, each with one job at a time")
        self._start = button("Start", "play", "Start server, workers and load", "start")
        self._start.button_style = "success"
        self._stop = button("Stop", "stop", "End load, workers and server", "stop")
        self._capacity = widgets.HTML()
        acting.on_click(self._start, "starting", lambda: start(self.backend, self.settings, self.worker_count))
        acting.on_click(self._stop, "stopping", stop)
        shape = [self._arrivals, self._rate, self._service, self._failing, self._retries, self._urgent]
        for control in shape:
            acting.on_change(control, lambda _: self._change())
        acting.on_change(self._workers, lambda _: self._set_workers())
        self._acting_controls = [*shape, self._workers]
        self._tell_capacity()
        self.box = panel(
            "Workload",
            "what arrives, and what it takes",
            [
                widgets.HBox([self._start, self._stop, self._backend]),
                widgets.HBox([
                    widgets.VBox([self._arrivals, self._rate, self._urgent, self._workers]),
                    widgets.VBox([self._service, self._failing, self._retries, self._capacity]),
                ]),
            ],
        )  # fmt: skip
        self.refresh()

    @property
    def backend(self) -> str:
        """The one that is chosen."""
        return str(self._backend.value)

    @property
    def worker_count(self) -> int:
        """As many as the control says."""
        return int(self._workers.value)

    @property
    def settings(self) -> Settings:
        """As the controls stand."""
        return Settings(
            arrivals=self._arrivals.value,
            rate_per_s=float(self._rate.value),
            service_s=self._service.value / 1e3,
            failing_share=self._failing.value / 100,
            max_retries=self._retries.value,
            urgent_share=self._urgent.value / 100,
        )

    def refresh(self) -> None:
        """Enable what can be used now, and show as many workers as there are."""
        session = self._session()
        self._acting.enable([self._start, self._backend], session is None)
        self._acting.enable(self._acting_controls, session is None or not session.resting)
        self._acting.enable([self._stop], session is not None)
        if session is not None:
            self._follows = True
            self._workers.value = session.worker_count
            self._follows = False

    def _change(self) -> None:
        self._tell_capacity()
        if (session := self._session()) is not None:
            session.change(self.settings)

    def _set_workers(self) -> None:
        self._tell_capacity()
        if (session := self._session()) is not None and not self._follows:
            session.set_worker_count(self._workers.value)

    def _tell_capacity(self) -> None:
        settings, workers = self.settings, self._workers.value
        if not settings.service_s or not workers:
            self._capacity.value = ""
            return
        most = workers / settings.service_s
        attempts = sum(settings.failing_share**failed for failed in range(settings.max_retries + 1))
        share = settings.rate_per_s * attempts / most
        verdict = "the backlog grows" if share > 1 else "they keep up" if share < 0.8 else "they barely keep up"
        self._capacity.value = (
            f"{workers} workers can do at most {most:,.0f} attempts/s; at {share:.0%} of it {verdict}"
        )


def _slider(label: str, value: int, most: int, step: int, tooltip: str) -> Any:
    return widgets.IntSlider(
        value, 0, most, step, description=label, tooltip=tooltip, style=_WIDE, layout=_LAYOUT, continuous_update=True
    )
