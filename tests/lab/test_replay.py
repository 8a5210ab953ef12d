"""What was done by hand, as a workload: exported, read back, and run."""

from pathlib import Path

import pytest

from allocator.bench.errors import InvalidWorkload
from allocator.bench.runs import run
from allocator.bench.workload import Workload
from allocator.lab.log import Log
from allocator.lab.replay import left_out, replayed, settings_workload, written
from allocator.lab.settings import Settings

FIRST = Settings(rate_per_s=50.0, service_s=0.005)


class Hand:
    """Does things at instants, and logs them."""

    def __init__(self, settings: Settings = FIRST, workers: int = 2) -> None:
        self.now_s = 0.0
        self.log = Log(settings, workers, lambda: self.now_s)

    def at(self, at_s: float, kind: str, number: int | None = None, settings: Settings | None = None) -> None:
        """Do it then."""
        self.now_s = at_s
        self.log.note(kind, kind, number, settings)


def test_what_did_not_change_keeps_its_model() -> None:
    """Bursts stay bursts, and a constant rate constant."""
    hand = Hand(Settings(arrivals="onoff", rate_per_s=50.0))

    workload = replayed(hand.log, 12.0)

    assert workload.arrival.model == "onoff"
    assert (workload.duration_s, workload.workers.supervisors, workload.faults) == (12.0, 2, ())


def test_a_rate_that_was_moved_becomes_steps() -> None:
    """Each at its instant; a pause of the load is a rate of 0."""
    hand = Hand()
    hand.at(3.0, "settings", settings=Settings(rate_per_s=0.0))
    hand.at(5.0, "settings", settings=Settings(rate_per_s=200.0))

    workload = replayed(hand.log, 9.0)

    assert workload.model_dump()["arrival"] == {
        "model": "steps",
        "rates": (
            {"at_s": 0.0, "rate_per_s": 50.0},
            {"at_s": 3.0, "rate_per_s": 0.0},
            {"at_s": 5.0, "rate_per_s": 200.0},
        ),
    }


def test_bursts_among_other_arrivals_become_steps_each() -> None:
    """With the rate of the burst and of the lull after it."""
    hand = Hand()
    hand.at(4.0, "settings", settings=Settings(arrivals="onoff", rate_per_s=100.0))

    rates = replayed(hand.log, 9.0).model_dump()["arrival"]["rates"]

    assert [(step["at_s"], round(step["rate_per_s"])) for step in rates] == [(0, 50), (4, 180), (6, 20), (8, 180)]


def test_a_slider_on_its_way_is_one_step() -> None:
    """Changes within a second of each other count as the last of them."""
    hand = Hand()
    for at_s, rate in ((3.0, 60.0), (3.2, 80.0), (3.9, 90.0)):
        hand.at(at_s, "settings", settings=Settings(rate_per_s=rate))

    assert [(action.at_s, action.settings) for action in hand.log.actions] == [(3.9, Settings(rate_per_s=90.0))]


def test_harm_becomes_faults_at_its_instants() -> None:
    """A pause lasts until it was ended, whatever ended it, or else until the end."""
    hand = Hand()
    hand.at(1.0, "kill", 1)
    hand.at(2.0, "pause", 0)
    hand.at(3.0, "pause server")
    hand.at(3.5, "resume server")
    hand.at(4.0, "kill", 0)
    hand.at(5.0, "restart server")
    hand.at(6.0, "kill", 7)
    hand.at(7.0, "flushall")
    hand.at(8.0, "pause", 1)

    faults = [
        (fault.kind, fault.at_s, getattr(fault, "seconds", None), getattr(fault, "number", None))
        for fault in replayed(hand.log, 10.0).faults
    ]

    assert faults == [
        ("kill_worker", 1.0, None, 1),
        ("pause_worker", 2.0, 2.0, 0),
        ("pause_server", 3.0, 0.5, None),
        ("kill_worker", 4.0, None, 0),
        ("restart_server", 5.0, 0.0, None),
        ("kill_worker", 6.0, None, None),
        ("flushall", 7.0, None, None),
        ("pause_worker", 8.0, 2.0, 1),
    ]


def test_what_no_workload_can_say_is_said_beside_it() -> None:
    """In the file too, which is a workload all the same."""
    hand = Hand()
    hand.at(2.0, "settings", settings=Settings(arrivals="constant", rate_per_s=50.0, service_s=0.02))
    hand.at(4.0, "add", 2)

    text = written(replayed(hand.log, 6.0), left_out(hand.log))

    assert text.startswith("# Not replayed: 4.0 s: add; the number of workers is the one at the start\n")
    assert "2.0 s: service_s changed; the last value holds for all of the run" in text
    assert "evenly spaced: at a rate that changes they come at random" in text
    assert Workload.from_yaml(text).model_dump()["service"] == {"model": "exponential", "mean_s": 0.02}


def test_where_nothing_arrived_there_is_nothing_to_replay() -> None:
    """The refusal says what to do."""
    nothing = Settings(rate_per_s=0.0)

    with pytest.raises(InvalidWorkload, match="the rate was 0 all the while"):
        replayed(Hand(nothing).log, 5.0)
    with pytest.raises(InvalidWorkload, match="the rate is 0"):
        settings_workload(nothing, 5.0, 2)


@pytest.mark.service
@pytest.mark.redis
@pytest.mark.faults
def test_what_was_exported_can_be_run(tmp_path: Path) -> None:
    """The kill happens again at its instant, more arrives after the rate was raised, and every promise is kept."""
    hand = Hand()
    hand.at(0.7, "kill", 0)
    hand.at(1.0, "settings", settings=Settings(rate_per_s=150.0, service_s=0.005))
    file = tmp_path / "lab.yaml"
    file.write_text(written(replayed(hand.log, 2.0), left_out(hand.log)), "utf-8")

    made = run(Workload.from_yaml(file), "redis", folder=tmp_path)

    (kill,) = made.about.faults
    assert (kill.kind, made.holds) == ("kill", True)
    assert kill.began_at >= 0.7
    assert (made.jobs["intended_at"] >= 1.0).sum() > 1.5 * (made.jobs["intended_at"] < 1.0).sum()
