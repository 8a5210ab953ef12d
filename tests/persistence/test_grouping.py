"""What comes at about the same time: written together, and each with an answer of its own."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, exc

from allocator.persistence import Assets, KeyReused, Store, Upload, open_store
from allocator.persistence.grouping import Grouping
from tests.faults.running import until
from tests.persistence.builders import FakeQueue, a_job, a_lease, an_ending, running, state_of
from tests.persistence.test_assets import Sent, accepted


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """In SQLite, which has one writer."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


def together(store: Store, *calls: Callable[[], Any]) -> list[Future[Any]]:
    """What became of each; the first one waits for the database, and all others for the first one's commit."""
    grouping = store._grouping
    assert isinstance(grouping, Grouping)
    with ThreadPoolExecutor(len(calls)) as pool:
        found = []
        with store._write():
            for number, call in enumerate(calls):
                found.append(pool.submit(call))
                until(lambda number=number: grouping._turn.locked() and len(grouping._waiting) == number, "it waits")
    return found


def accept_together(store: Store, queue: FakeQueue, *sent: Sent) -> list[Future[Upload]]:
    """As `together`, of uploads."""
    assets = Assets(store)
    return together(store, *(partial(assets.accept, queue, one.upload, one.assets, one.jobs) for one in sent))


def test_what_waits_for_one_commit_shares_the_next(store: Store, queue: FakeQueue) -> None:
    """All of it is stored, and all of it enqueued."""
    commits: list[Any] = []
    event.listen(store.engine, "commit", commits.append)
    sent = [Sent((f"{number}.txt",)) for number in range(5)]

    answers = [future.result() for future in accept_together(store, queue, *sent)]

    # One is the writer's that all waited for.
    assert len(commits) == 3
    assert answers == [one.upload for one in sent]
    assert {asset.name for asset in Assets(store).find()} == {f"{number}.txt" for number in range(5)}
    assert {job.id for job in queue.enqueued} == {job.id for one in sent for job in one.jobs}


def test_attempts_begin_and_end_beside_uploads(store: Store, queue: FakeQueue) -> None:
    """In one commit, which waits for the disk since an upload is among them."""
    commits: list[Any] = []
    ended, new = running(store, queue), a_lease(a_job())
    stranger = an_ending(a_lease(a_job()))
    before, sent = Sent(), Sent()
    event.listen(store.engine, "commit", commits.append)

    _, begun, fenced, _ = together(
        store,
        partial(Assets(store).accept, queue, before.upload, before.assets, before.jobs),
        partial(store.begin, [new], queue),
        partial(store.settle, [an_ending(ended), stranger]),
        partial(Assets(store).accept, queue, sent.upload, sent.assets, sent.jobs),
    )

    assert len(commits) == 3
    assert commits[-1].get_execution_options()["allocator_synchronous"] == "FULL"
    assert begun.result().runnable == [new]
    assert fenced.result() == [stranger]
    assert [state_of(store, lease.job.id) for lease in (ended, new)] == ["done", "processing"]
    assert Assets(store).upload(sent.upload.id) == sent.upload


def test_a_key_twice_in_one_group(store: Store, queue: FakeQueue) -> None:
    """The one that is written first counts: the same content again gives it, and other content is refused."""
    before, first, again, other = Sent(), Sent(key="k"), Sent(key="k"), Sent(key="k", digest="d2")

    _, *answers = accept_together(store, queue, before, first, again, other)

    assert [answer.result() for answer in answers[:2]] == [first.upload, first.upload]
    with pytest.raises(KeyReused, match="use a new key"):
        answers[2].result()
    assert {asset.id for asset in Assets(store).find()} == {before.assets[0].id, first.assets[0].id}
    assert {job.id for job in queue.enqueued} == {before.jobs[0].id, first.jobs[0].id}


def test_one_that_fails_harms_no_other_of_its_group(store: Store, queue: FakeQueue) -> None:
    """It alone is told, and nothing of it is written."""
    taken = accepted(Assets(store), queue)[0]
    before, one, clash, other = Sent(), Sent(), Sent(("a", "b")), Sent(key="k")
    clash.assets[1].id = taken.id

    answers = accept_together(store, queue, before, one, clash, other)

    assert [answers[place].result() for place in (0, 1, 3)] == [before.upload, one.upload, other.upload]
    with pytest.raises(exc.IntegrityError):
        answers[2].result()
    stored = {asset.upload_id for asset in Assets(store).find()}
    assert stored == {taken.upload_id, before.upload.id, one.upload.id, other.upload.id}
    assert Assets(store).upload(clash.upload.id) is None


def test_each_hears_of_a_queue_that_is_down(store: Store, queue: FakeQueue) -> None:
    """Whose group was committed all the same, as a whole."""
    queue.broken = True
    sent = [Sent() for _ in range(3)]

    answers = accept_together(store, queue, *sent)

    assert [type(answer.exception()).__name__ for answer in answers] == ["QueueUnavailable"] * 3
    assert len(store.unfinished(queue.identity)) == 3
