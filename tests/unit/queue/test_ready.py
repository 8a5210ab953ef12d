"""The order of the in-process queue's ready jobs."""

import random
from dataclasses import dataclass

import pytest

from allocator.queue.inprocess.ready import Ready


@dataclass
class Entry:
    """What has a place."""

    rank: int
    sequence: int

    @property
    def place(self) -> tuple[int, int]:
        """Lowest first."""
        return self.rank, self.sequence


@pytest.mark.parametrize("seed", range(20))
def test_it_is_a_sorted_list(seed: int) -> None:
    """Whatever is appended, put back and taken, the lowest place comes first."""
    source, ready = random.Random(seed), Ready[Entry]()
    expected: list[Entry] = []
    outside: list[Entry] = []
    sequence = 0
    for _ in range(400):
        what = source.random()
        if what < 0.45:
            entry = Entry(source.randint(-2, 2), sequence)
            sequence += 1
            ready.append(entry)
            expected.append(entry)
        elif what < 0.6 and outside:
            entry = outside.pop(source.randrange(len(outside)))
            ready.put_back(entry)
            expected.append(entry)
        elif expected:
            expected.sort(key=lambda entry: entry.place)
            assert expected[0] is ready.peek()
            outside.append(ready.pop())
            assert expected.pop(0) is outside[-1]
        assert sorted(entry.place for entry in expected) == sorted(entry.place for entry in ready)


def test_it_can_be_made_of_entries() -> None:
    """In whatever order they come."""
    entries = [Entry(n % 3, n) for n in range(30)]
    random.Random(1).shuffle(entries)

    ready = Ready(entries)

    assert sorted(entry.place for entry in entries) == [ready.pop().place for _ in range(30)]


def test_what_was_emptied_can_be_filled_again() -> None:
    """Ranks come and go."""
    ready = Ready[Entry]()
    taken = []

    for sequence in range(0, 20, 2):
        ready.append(Entry(5, sequence))
        taken.append(ready.pop().sequence)
        ready.put_back(Entry(5, sequence + 1))
        taken.append(ready.pop().sequence)

    assert list(range(20)) == taken
    assert list(ready) == []
