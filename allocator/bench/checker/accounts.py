"""What went in against what came out: nothing is lost, nothing is invented, and nothing counts twice."""

from allocator.bench.checker.case import Case
from allocator.bench.checker.history import Enqueue, Record, Run
from allocator.bench.checker.verdicts import Judgement, Promise


def judge_accounts(case: Case, judgement: Judgement) -> None:
    """LOST, INVENTED, ONCE and DRAINED, job by job."""
    unfinished: list[str] = []
    by_records, by_places = case.history.records is not None, case.places is not None
    for job, enqueues in case.enqueues.items():
        accepted = sum(enqueue.taken is True for enqueue in enqueues)
        perhaps = sum(enqueue.taken is None for enqueue in enqueues)
        if by_records:
            _judge_record(case, judgement, enqueues, case.records.get(job), unfinished)
        if by_places or case.history.attempts is not None:
            _balance(case, judgement, job, accepted, perhaps)
    _judge_strangers(case, judgement)
    _judge_lists(case, judgement)
    _judge_drained(case, judgement, unfinished)


def _judge_record(
    case: Case, judgement: Judgement, enqueues: list[Enqueue], record: Record | None, unfinished: list[str]
) -> None:
    lost, job = judgement[Promise.LOST], enqueues[0].job
    if record is None:
        # What may have been refused may well be missing.
        if any(enqueue.taken for enqueue in enqueues):
            lost.checked += 1
            lost.against(f"job {job} was accepted, and the store does not know it")
        return
    lost.checked += 1
    if record.state == "done":
        judgement.done += 1
        runs = case.runs.get(job, ())
        # That a failed run was told done is another promise's.
        if case.history.runs is not None and not any(run.finished or _swallowed(case, run) for run in runs):
            lost.against(f"job {job} is done in the store, and none of its {len(runs)} runs came to its end")
    elif record.state == "dead":
        judgement.dead += 1
        if enqueues[-1].dies is False:
            lost.against(f"job {job} is dead in the store, and was not made to die; its last error: {record.error}")
    elif record.state == "cancelled":
        if job not in case.removals:
            lost.against(f"job {job} is cancelled in the store, and nobody cancelled it")
    else:
        unfinished.append(f"job {job} never ended: the store has it as {record.state}")


def _swallowed(case: Case, run: Run) -> bool:
    attempt = case.by_token.get(run.token)
    return run.failed and attempt is not None and attempt.outcome == "done"


def _balance(case: Case, judgement: Judgement, job: str, accepted: int, perhaps: int) -> None:
    """How often a job was accepted, against how often its stay in the queue was ended, and whether it is there."""
    ended = perhaps_ended = stale = 0
    for attempt in case.attempts.get(job, ()):
        if attempt.outcome == "done":
            if attempt.taken is None:
                perhaps_ended += 1
            elif attempt.taken and attempt.token in case.stale:
                stale += 1
            elif attempt.taken:
                ended += 1
    for removal in case.removals.get(job, ()):
        if removal.verb == "purge" and removal.taken:
            ended += 1
        elif removal.verb != "requeue" and removal.taken is not False:
            # A cancel too: a mark on a leased job that was done or lived on is no end.
            perhaps_ended += 1
    present = 0 if case.places is None else int(job in case.places)
    ends_known = case.history.attempts is not None
    if ends_known and (accepted or perhaps):
        once = judgement[Promise.ONCE]
        once.checked += 1
        if present + ended > accepted + perhaps:
            once.against(
                f"job {job} was enqueued {accepted} times{f' and perhaps {perhaps} more' if perhaps else ''}; it ended "
                f"{ended} times{' and is in the queue' if present else ''}"
            )
    if case.places is not None:
        lost = judgement[Promise.LOST]
        if accepted <= present + ended + stale + perhaps_ended:
            lost.checked += 1
        elif not ends_known:
            lost.unknown += 1
        else:
            lost.checked += 1
            lost.against(f"job {job} was accepted {accepted} times, ended {ended + stale}, and is not in the queue")


def _judge_strangers(case: Case, judgement: Judgement) -> None:
    """What nobody enqueued, or what was refused, and is there all the same."""
    invented = judgement[Promise.INVENTED]
    seen = _seen(case)
    invented.checked += len(seen)
    refused = {job for job, enqueues in case.enqueues.items() if all(each.taken is False for each in enqueues)}
    for job in sorted((seen - case.enqueues.keys()) | (seen & refused)):
        what = "the call that enqueued it failed" if job in refused else "it was enqueued by nobody"
        invented.against(f"job {job} is there, and {what}")
    if case.layout is None:
        return
    for job, mark in case.layout.marks.items():
        marks = {enqueue.mark for enqueue in case.enqueues.get(job, ()) if enqueue.taken is not False}
        if marks and mark not in marks:
            invented.against(f"job {job} holds the payload {mark}, which nobody gave it")


def _seen(case: Case) -> set[str]:
    """Jobs that something is known of besides the calls that enqueued them."""
    purged = {job for job, removals in case.removals.items() if any(each.verb == "purge" for each in removals)}
    return case.records.keys() | case.runs.keys() | case.attempts.keys() | (case.places or {}).keys() | purged


def _judge_lists(case: Case, judgement: Judgement) -> None:
    """A list whose reply never came is there as a whole, or not at all."""
    lists: dict[str, set[str]] = {}
    for enqueue in case.history.enqueues:
        # An id that was used before or after says nothing of this list.
        if enqueue.taken is None and enqueue.call and len(case.enqueues[enqueue.job]) == 1:
            lists.setdefault(enqueue.call, set()).add(enqueue.job)
    if not lists:
        return
    seen = _seen(case)
    for call, jobs in lists.items():
        there = jobs & seen
        if there and there != jobs:
            judgement[Promise.ONCE].against(
                f"the list of call {call} was accepted in part: {', '.join(sorted(there))} of {', '.join(sorted(jobs))}"
            )


def _judge_drained(case: Case, judgement: Judgement, unfinished: list[str]) -> None:
    left = case.history.left
    if left is None:
        judgement[Promise.LOST].unknown += len(unfinished)
        return
    drained = judgement[Promise.DRAINED]
    drained.checked += len(case.enqueues)
    if left:
        drained.against(f"{left} jobs still wait in the queue or are leased", left)
    # What has no end and is not in the queue either has nobody to bring it to one.
    if len(unfinished) > left:
        judgement[Promise.LOST].against(f"{unfinished[0]}, and the queue has {left} jobs left", len(unfinished) - left)
