"""What a queue tells of itself, against its keys or rows and against what clients did."""

from collections import Counter

from allocator.bench.checker.case import Case
from allocator.bench.checker.history import Layout
from allocator.bench.checker.verdicts import Judgement, Promise


def judge_queue(case: Case, judgement: Judgement) -> None:
    """LOST and INVENTED by `counts`, `find` and layout: what is told too little is lost, what too much, invented."""
    history = case.history
    if history.layout is not None:
        for promise, problem in history.layout.problems:
            judgement[promise].against(problem)
        if history.counts is not None:
            _compare_places(judgement, history.layout, history.counts)
        if history.found is not None:
            _compare_found(judgement, history.layout, history.found)
    if history.counts is not None and history.attempts is not None:
        _compare_totals(case, judgement, history.counts)


def _told(judgement: Judgement, what: str, told: int, least: int, most: int) -> None:
    if not least <= told <= most:
        extent = f"{least}" if least == most else f"{least} to {most}"
        promise = Promise.LOST if told < least else Promise.INVENTED
        judgement[promise].against(f"counts tells {told} {what}, there should be {extent}")


def _compare_places(judgement: Judgement, layout: Layout, counts: dict[str, int]) -> None:
    stand = Counter(place for places in layout.places.values() for place in places)
    waiting = stand["ready"] + stand["scheduled"]
    _told(judgement, "waiting", counts["ready"] + counts["scheduled"], waiting, waiting)
    for place in ("leased", "dead"):
        _told(judgement, place, counts[place], stand[place], stand[place])


def _compare_found(judgement: Judgement, layout: Layout, found: dict[str, str]) -> None:
    for job in layout.places.keys() | found.keys():
        place, state = layout.places.get(job, [""])[0], found.get(job, "")
        # What has come due since somebody looked is ready, wherever it stands.
        if state in (place, "cancelled") or (state, place) == ("ready", "scheduled"):
            continue
        judgement[Promise.INVENTED if state else Promise.LOST].against(
            f"job {job}: find says {state or 'that it is not known'}, it stands in {place or 'no place'}"
        )


def _compare_totals(case: Case, judgement: Judgement, counts: dict[str, int]) -> None:
    least, most = Counter[str](), Counter[str]()

    def add(what: str, taken: bool | None) -> None:
        least[what] += taken is True
        most[what] += taken is not False

    for attempt in case.history.attempts or ():
        if attempt.outcome == "done":
            add("done", attempt.taken)
    for removal in case.history.removals:
        if removal.verb == "purge":
            add("purged", removal.taken)
        elif removal.verb == "cancel":
            # Taken or not: a leased one may be done all the same.
            most["cancelled"] += removal.taken is not False
    for enqueue in case.history.enqueues:
        add("in all", enqueue.taken)
    for what in ("done", "purged", "cancelled"):
        _told(judgement, what, counts[what], least[what], most[what])
    _told(judgement, "in all", sum(counts.values()), least["in all"], most["in all"])
