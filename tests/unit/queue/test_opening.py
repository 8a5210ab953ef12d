"""From a URL to a queue."""

import pytest

from allocator import Job, ManualClock, QueueUnavailable, open_queue
from allocator.queue.inprocess import InProcessQueue
from allocator.services import free_port


@pytest.mark.parametrize(
    "url", ["", "localhost:6379", "http://localhost", "kafka://localhost", "memory", "sqlite:///x.db"]
)
def test_an_unknown_scheme_is_refused(url: str) -> None:
    """The text shows it, and lists those that are known."""
    with pytest.raises(ValueError, match=r"url: .* is no known backend; use memory://.*redis://.*postgresql://"):
        open_queue(url)


@pytest.mark.parametrize("url", ["memory://", "memory://shared-name", "memory://a/b"])
def test_memory_is_in_process(url: str) -> None:
    """With a name or without."""
    with open_queue(url, name="opening") as queue:
        assert isinstance(queue, InProcessQueue)
        assert queue.size() == 0


def test_without_a_name_each_object_is_a_queue_of_its_own() -> None:
    """Nothing is shared by accident."""
    with open_queue("memory://") as one, open_queue("memory://") as other:
        one.enqueue(Job(type="json"))

        assert (one.size(), other.size()) == (1, 0)


def test_a_name_is_shared_with_the_queue_name() -> None:
    """Both must be the same for objects to be of one queue."""
    url = "memory://test-opening-shared"
    with open_queue(url, name="a") as one, open_queue(url, name="a") as same, open_queue(url, name="b") as other:
        one.enqueue(Job(type="json"))

        assert (one.size(), same.size(), other.size()) == (1, 1, 0)
        lease = same.dequeue(timeout=0)
        assert lease is not None
        one.ack(lease)


def test_options_reach_the_queue() -> None:
    """They are those of `Queue`, by name."""
    clock = ManualClock(100.0)

    with open_queue("memory://", name="n", lease_s=3.0, worker="w\n1", clock=clock) as queue:
        queue.enqueue(Job(type="json"))
        lease = queue.dequeue(timeout=0)

    assert lease is not None
    assert (queue.name, queue.lease_s, lease.expires_at) == ("n", 3.0, 103.0)
    assert lease.worker == "w 1"


def test_an_unknown_option_is_refused() -> None:
    """A slip of the pen is not passed over."""
    with pytest.raises(TypeError, match="lease_seconds"):
        open_queue("memory://", lease_seconds=3.0)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "{a}", "a/b", "ä", "x" * 65, None, 7, "a\n"])
def test_a_wrong_name_is_refused(name: object) -> None:
    """The text gives the rule and shows what came."""
    with pytest.raises(ValueError, match="1 to 64 of letters, digits") as caught:
        open_queue("memory://", name=name)

    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("url", "checks"),
    [
        ("redis://user:secret@127.0.0.1:{port}/0", "is it running"),
        ("redis://127.0.0.1:{port}/0?password=secret", "is it running"),
        ("postgresql://user:secret@127.0.0.1:{port}/0", "is it running|server"),
    ],
)
def test_where_no_server_is_the_error_says_what_to_check(url: str, checks: str) -> None:
    """At once, with the address and without the password."""

    with pytest.raises(QueueUnavailable, match=checks) as caught:
        open_queue(url.format(port=free_port()))

    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize(
    "url", ["redis+sentinel://localhost:26379", "redis+cluster://localhost:many", "redis://localhost:many/0"]
)
def test_a_url_that_cannot_be_read_is_refused(url: str) -> None:
    """As a wrong value, before anything is tried."""
    with pytest.raises(ValueError, match="url: "):
        open_queue(url)
