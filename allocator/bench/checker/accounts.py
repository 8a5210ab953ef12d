"""What went in against what came out: nothing is lost, nothing is invented, and nothing counts twice."""

from dataclasses import dataclass

from allocator.bench.checker.case import Case, OfJob
from allocator.bench.checker.verdicts import Judgement, Promise


@dataclass(slots=True)
class Unfinished:
    """
    Jobs that never ended by the records, in all parts of a run, against what the queue has left of them.

    Args:
        first: What is said of the first of them.
        left: None: not known.
    """

    count: int = 0
    first: str = ""
    left: int | None = 0

    def add(self, said: str) -> None:
        """One more."""
        self.count += 1
        self.first = self.first or said


def judge_accounts(case: Case, judgement: Judgement, unfinished: Unfinished) -> None:
    """LOST, INVENTED and ONCE, job by job; jobs without an end are judged once all are known."""
    by_records = case.history.records is not None
    for of_job in case.jobs.values():
        if not of_job.enqueues:
            continue
        if by_records:
            _judge_record(case, judgement, of_job, unfinished)
        if case.knows_places or case.history.attempts is not None:
            _balance(case, judgement, of_job)
    _judge_strangers(case, judgement)
    _judge_lists(case, judgement)
    left = case.history.left
    unfinished.left = None if left is None or unfinished.left is None else unfinished.left + left


def judge_drained(judgement: Judgement, unfinished: Unfinished) -> None:
    """DRAINED, and of LOST what has no end and is not in the queue either: nobody will bring it to one."""
    left = unfinished.left
    if left is None:
        judgement[Promise.LOST].unknown += unfinished.count
        return
    drained = judgement[Promise.DRAINED]
    drained.checked += judgement.jobs
    if left:
        drained.against(f"{left} jobs still wait in the queue or are leased", left)
    if unfinished.count > left:
        lost = unfinished.count - left
        judgement[Promise.LOST].against(f"{unfinished.first}, and the queue has {left} jobs left", lost)


def _judge_record(case: Case, judgement: Judgement, of_job: OfJob, unfinished: Unfinished) -> None:
    lost, job, record = judgement[Promise.LOST], of_job.job, of_job.record
    if record is None:
        # What may have been refused may well be missing.
        if any(enqueue.taken for enqueue in of_job.enqueues):
            lost.checked += 1
            lost.against(f"job {job} was accepted, and the store does not know it")
        return
    lost.checked += 1
    if record.state == "done":
        judgement.done += 1
        if case.history.runs is not None and not _came_to_its_end(of_job):
            lost.against(f"job {job} is done in the store, and none of its {len(of_job.runs)} runs came to its end")
    elif record.state == "dead":
        judgement.dead += 1
        if of_job.enqueues[-1].dies is False:
            lost.against(f"job {job} is dead in the store, and was not made to die; its last error: {record.error}")
    elif record.state == "cancelled":
        if not of_job.removals:
            lost.against(f"job {job} is cancelled in the store, and nobody cancelled it")
    else:
        unfinished.add(f"job {job} never ended: the store has it as {record.state}")


def _came_to_its_end(of_job: OfJob) -> bool:
    for run in of_job.runs:
        if run.finished:
            return True
        # That a failed run was told done is another promise's.
        if run.failed and (attempt := of_job.attempt(run.token)) is not None and attempt.outcome == "done":
            return True
    return False


def _balance(case: Case, judgement: Judgement, of_job: OfJob) -> None:
    """How often a job was accepted, against how often its stay in the queue was ended, and whether it is there."""
    job = of_job.job
    accepted = perhaps = ended = perhaps_ended = stale = 0
    for enqueue in of_job.enqueues:
        accepted += enqueue.taken is True
        perhaps += enqueue.taken is None
    for attempt in of_job.attempts:
        if attempt.outcome == "done":
            if attempt.taken is None:
                perhaps_ended += 1
            elif attempt.taken and attempt.token in case.stale:
                stale += 1
            elif attempt.taken:
                ended += 1
    for removal in of_job.removals:
        if removal.verb == "purge" and removal.taken:
            ended += 1
        elif removal.verb != "requeue" and removal.taken is not False:
            # A cancel too: a mark on a leased job that was done or lived on is no end.
            perhaps_ended += 1
    present = int(of_job.place is not None)
    ends_known = case.history.attempts is not None
    if ends_known and (accepted or perhaps):
        once = judgement[Promise.ONCE]
        once.checked += 1
        if present + ended > accepted + perhaps:
            once.against(
                f"job {job} was enqueued {accepted} times{f' and perhaps {perhaps} more' if perhaps else ''}; it ended "
                f"{ended} times{' and is in the queue' if present else ''}"
            )
    if case.knows_places:
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
    for job, of_job in case.jobs.items():
        if not of_job.is_there:
            continue
        invented.checked += 1
        if not of_job.enqueues:
            invented.against(f"job {job} is there, and was enqueued by nobody")
        elif all(enqueue.taken is False for enqueue in of_job.enqueues):
            invented.against(f"job {job} is there, and the call that enqueued it failed")
    if case.history.layout is None:
        return
    for job, mark in case.history.layout.marks.items():
        marks = {enqueue.mark for enqueue in case.jobs[job].enqueues if enqueue.taken is not False}
        if marks and mark not in marks:
            invented.against(f"job {job} holds the payload {mark}, which nobody gave it")


def _judge_lists(case: Case, judgement: Judgement) -> None:
    """A list whose reply never came is there as a whole, or not at all."""
    lists: dict[str, set[str]] = {}
    for enqueue in case.history.enqueues:
        # An id that was used before or after says nothing of this list.
        if enqueue.taken is None and enqueue.call and len(case.jobs[enqueue.job].enqueues) == 1:
            lists.setdefault(enqueue.call, set()).add(enqueue.job)
    for call, jobs in lists.items():
        there = {job for job in jobs if case.jobs[job].is_there}
        if there and there != jobs:
            judgement[Promise.ONCE].against(
                f"the list of call {call} was accepted in part: {', '.join(sorted(there))} of {', '.join(sorted(jobs))}"
            )
