"""Worker processes: whatever happens to one, its job is charged, its neighbours are not, and another replaces it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from allocator import Backoff, Queue
from allocator.persistence import open_store
from allocator.queue.inprocess import InProcessQueue
from allocator.supervisor import Supervisor
from tests.contract.builders import BOUND_S, Clients, a_job, counts
from tests.faults.running import Running, until
from tests.supervisor.test_supervisor import Seen

PROGRAMS = {
    name: f"tests.supervisor.programs:{name}"
    for name in (
        "pid",
        "write_pid",
        "write_lease",
        "die",
        "die_of_a_nameless_signal",
        "talk_nonsense",
        "leave",
        "crash",
        "raise_system_exit",
        "hang",
        "hang_telling",
        "hang_in_c",
        "fail",
        "fail_without_words",
        "fail_at_a_name",
        "fork_and_come_back",
        "name_itself",
        "tell_halves",
        "tell_no_number",
        "give_a_name",
        "co",
    )
}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs are found by the processes too."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture
def eager_queue(open_client: Clients) -> Queue:
    """Real time, and no pause before the next attempt."""
    return open_client(clock=None, backoff=Backoff(base=0.0))


@pytest.mark.parametrize("kind", ["workers", "processes"])
def test_a_job_sees_its_lease(eager_queue: Queue, tmp_path: Path, kind: str) -> None:
    """When it became due and was leased, in a thread and in a process alike, and its worker's name."""
    path = tmp_path / "lease"
    (job,) = eager_queue.enqueue_many([a_job(type="write_lease", payload={"path": str(path)})])

    options = {"workers": 1} if kind == "workers" else {"processes": 1}
    with Supervisor(eager_queue, PROGRAMS, **options) as supervisor:
        assert supervisor.drain(BOUND_S)

    due_at, leased_at, name = path.read_text().split()
    assert float(due_at) == job.enqueued_at
    assert float(leased_at) >= float(due_at)
    assert name == ("worker-1" if kind == "workers" else "process-1")


@pytest.mark.parametrize("kind", ["workers", "processes"])
def test_whatever_a_processor_says_its_worker_goes_on(kind: str) -> None:
    """Fractions and names that are no UTF-8 do no harm; what cannot be told fails the attempt, and says so."""
    programs = ["tell_halves", "give_a_name", "tell_no_number", "fail_without_words", "fail_at_a_name"]
    queue = InProcessQueue()
    queue.enqueue_many([a_job(type=program, max_retries=0) for program in programs])

    with queue, Supervisor(queue, PROGRAMS, **{"workers": 0, kind: 1}) as supervisor:
        assert supervisor.drain(BOUND_S)
        restarts = supervisor.stats().restarts

    assert {letter.job.type: letter.error for letter in queue.dead_letters()} == {
        "tell_no_number": "ValueError: progress: done must be a finite number, not nan",
        "fail_without_words": "Unspeakable: (its text cannot be told: RuntimeError)",
        "fail_at_a_name": "FileNotFoundError: nothing at caf\\udce9.txt",
    }
    assert queue.counts() == counts(done=2, dead=3)
    assert restarts == 0


def test_jobs_run_in_processes(eager_queue: Queue, tmp_path: Path) -> None:
    """Of their own, which stay for the next job."""
    path = tmp_path / "pids"
    eager_queue.enqueue_many([a_job(type="write_pid", payload={"path": str(path)}) for _ in range(20)])

    with Supervisor(eager_queue, PROGRAMS, processes=2) as supervisor:
        assert supervisor.drain(BOUND_S)

    pids = path.read_text().split()
    assert len(pids) == 20
    assert 1 <= len(set(pids)) <= 2
    assert str(os.getpid()) not in pids


def test_a_process_is_there_before_its_first_job(queue: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With its processors loaded: what that takes is not added to what the first job takes."""
    loaded = tmp_path / "loaded"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    says_who = f"import os, pathlib\npathlib.Path({str(loaded)!r}).write_text(str(os.getpid()))\n"
    (tmp_path / "slow_to_load.py").write_text(f"{says_who}def work(context):\n    pass\n")
    supervisor = Supervisor(queue, {"json": "slow_to_load:work"}, processes=1)
    loaded.unlink(missing_ok=True)

    with supervisor:
        assert _number_in(loaded) != os.getpid()


def test_a_process_that_does_not_start_is_told_of_before_its_first_job(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, at once."""
    (tmp_path / "only_known_here.py").write_text("def work(context):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)

    with Supervisor(queue, {"json": "only_known_here:work"}, processes=1):
        until(lambda: "process-1: its process did not start: processor 'only_known_here:work'" in caplog.text, "told")


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("die", "killed by SIGKILL"),
        ("leave", "exited with status 3"),
        ("crash", "killed by SIGSEGV"),
        ("raise_system_exit", "SystemExit: 4"),
        ("fail", "ValueError: no such colour"),
    ],
)
def test_a_job_that_ends_its_worker_ends_as_a_dead_letter(eager_queue: Queue, program: str, error: str) -> None:
    """After its last attempt, with how the process ended; its neighbours are done."""
    eager_queue.enqueue_many([a_job(type="co"), a_job(type=program, max_retries=1), a_job(type="co"), a_job(type="co")])

    with Supervisor(eager_queue, PROGRAMS, processes=2) as supervisor:
        assert supervisor.drain(BOUND_S)

    (letter,) = eager_queue.dead_letters()
    assert error in letter.error
    assert letter.attempt_count == 2
    assert eager_queue.counts() == counts(done=3, dead=1)


def test_a_process_that_ends_or_talks_strangely_is_replaced() -> None:
    """By a signal that has no name, or with what is no message: the job is charged, and the next one done."""
    queue = InProcessQueue()
    programs = ("die_of_a_nameless_signal", "talk_nonsense", "co")
    queue.enqueue_many([a_job(type=program, max_retries=0) for program in programs])

    with queue, Supervisor(queue, PROGRAMS, processes=1) as supervisor:
        assert supervisor.drain(BOUND_S)

    killed, misunderstood = queue.dead_letters()
    assert killed.error == "the worker process died: killed by signal 40"
    assert misunderstood.error.startswith("the worker process cannot be understood: JSON is malformed")
    assert queue.counts() == counts(done=1, dead=2)


def test_a_fork_that_comes_back_speaks_for_no_job(tmp_path: Path) -> None:
    """Neither for the one that made it nor, as its word would come too many, for all that follow."""
    queue = InProcessQueue()
    with queue, open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        forked = store.submit(queue, a_job(type="fork_and_come_back"))
        others = [store.submit(queue, a_job(type="name_itself")) for _ in range(20)]
        with Supervisor(queue, PROGRAMS, processes=1, store=store) as supervisor:
            assert supervisor.drain(BOUND_S)
        results = [stored.result for job in (forked, *others) if (stored := store.job(job.id))]

    assert results == ["of the job", *(job.id for job in others)]


@pytest.mark.parametrize("program", ["hang", "hang_in_c"])
def test_a_process_over_its_timeout_is_killed(eager_queue: Queue, program: str) -> None:
    """Even in a C call that holds the interpreter's lock; the job is charged at once."""
    eager_queue.enqueue_many([a_job(type=program, timeout=0.5, max_retries=0), a_job(type="co")])

    with Supervisor(eager_queue, PROGRAMS, processes=1) as supervisor:
        assert supervisor.drain(BOUND_S)

    (letter,) = eager_queue.dead_letters()
    assert letter.error.startswith("timeout: ran longer than 0.5 s")
    assert eager_queue.counts() == counts(done=1, dead=1)


def test_at_the_end_of_the_grace_processes_are_killed_and_their_jobs_released(eager_queue: Queue) -> None:
    """The fault is not the job's: it is ready again at once, uncharged."""
    job = eager_queue.enqueue(a_job(type="hang"))
    seen = Seen()
    supervisor = Supervisor(eager_queue, PROGRAMS, processes=1, events=[seen]).start()
    seen.wait_for(("started", job.id))

    supervisor.stop(grace=0.0)

    lease = eager_queue.dequeue(timeout=0)
    assert lease is not None
    assert lease.attempt == 1


def test_a_process_killed_from_outside_is_replaced(eager_queue: Queue, tmp_path: Path) -> None:
    """Its job is charged without waiting for the lease, and the next process goes on."""
    path = tmp_path / "pid"
    job = eager_queue.enqueue(a_job(type="hang_telling", payload={"path": str(path)}, timeout=60, max_retries=0))
    seen = Seen()

    with Supervisor(eager_queue, PROGRAMS, processes=1, events=[seen]) as supervisor:
        os.kill(_number_in(path), signal.SIGKILL)
        seen.wait_for(("dead", job.id))
        restarts = supervisor.stats().restarts
        eager_queue.enqueue(a_job(type="co"))
        assert supervisor.drain(BOUND_S)

    assert restarts == 1
    assert eager_queue.counts() == counts(done=1, dead=1)


def test_a_process_that_died_while_idle_costs_no_job(eager_queue: Queue, tmp_path: Path) -> None:
    """The job had not begun there: it is not charged, and runs in the next process."""
    path = tmp_path / "pids"
    eager_queue.enqueue(a_job(type="write_pid", payload={"path": str(path)}))
    with Supervisor(eager_queue, PROGRAMS, processes=1) as supervisor:
        assert supervisor.drain(BOUND_S)

        os.kill(_number_in(path), signal.SIGKILL)
        eager_queue.enqueue(a_job(type="write_pid", payload={"path": str(path)}, max_retries=0))
        assert supervisor.drain(BOUND_S)

    assert eager_queue.counts() == counts(done=2)


def test_a_stop_does_not_wait_for_a_process_that_is_being_started(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There is no job that it would do."""
    begun = tmp_path / "begun"
    slow = f"import os, sys, time\nif sys.argv[0].endswith('child.py'):\n    open({str(begun)!r}, 'w').write('1')\n"
    (tmp_path / "loads_for_an_hour.py").write_text(f"{slow}    time.sleep(3600)\ndef work(context):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    supervisor = Supervisor(queue, {"json": "loads_for_an_hour:work"}, processes=1).start()
    _number_in(begun)

    stopped = Running(supervisor.stop, 3600.0)

    assert stopped.result(BOUND_S)


def test_a_process_that_dies_before_it_is_ready_is_told(
    eager_queue: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the dead letter: two starts have failed in a row, and a third would hardly do better."""
    (tmp_path / "ends_its_process.py").write_text(
        "import os, sys\nif sys.argv[0].endswith('child.py'):\n    os._exit(3)\ndef work(context):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    eager_queue.enqueue(a_job(max_retries=1))

    with Supervisor(eager_queue, {"json": "ends_its_process:work"}, processes=1) as supervisor:
        assert supervisor.drain(BOUND_S)

    (letter,) = eager_queue.dead_letters()
    assert letter.error == "the worker process did not start: exited with status 3"
    assert letter.attempt_count == 2


def test_a_process_that_cannot_find_its_processors_is_told(
    eager_queue: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the dead letter, not in a loop of processes."""
    (tmp_path / "only_found_here.py").write_text("def work(context):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    eager_queue.enqueue(a_job(max_retries=1))

    with Supervisor(eager_queue, {"json": "only_found_here:work"}, processes=1) as supervisor:
        assert supervisor.drain(BOUND_S)

    (letter,) = eager_queue.dead_letters()
    assert letter.error.startswith("the worker process did not start: processor 'only_found_here:work'")


@pytest.mark.parametrize(("breaks", "told"), [("{}['HOME']", "KeyError: 'HOME'"), ("sys.exit(4)", "SystemExit: 4")])
def test_a_module_that_breaks_where_it_is_imported_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, breaks: str, told: str
) -> None:
    """In a worker process alone, as for want of a variable: the attempt has failed, and says with what."""
    (tmp_path / "breaks_in_a_child.py").write_text(
        f"import sys\nif sys.argv[0].endswith('child.py'): {breaks}\ndef work(context): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    queue = InProcessQueue()
    queue.enqueue(a_job(max_retries=0))

    with queue, Supervisor(queue, {"json": "breaks_in_a_child:work"}, processes=1) as supervisor:
        assert supervisor.drain(BOUND_S)

    (letter,) = queue.dead_letters()
    assert letter.error.startswith("the worker process did not start: processor 'breaks_in_a_child:work': its module")
    assert letter.error.endswith(told)


def test_a_worker_process_loads_no_client_of_a_server() -> None:
    """It has none, and would take many times as long to start, also in the place of one that died."""
    program = (
        "import sys, allocator.supervisor.child; print([*{'redis', 'psycopg', 'sqlalchemy'} & sys.modules.keys()])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def _number_in(path: Path) -> int:
    """What a program writes into a file, once it has."""
    pause = threading.Event()
    for _ in range(int(BOUND_S / 0.02)):
        if path.exists() and (text := path.read_text().split()):
            return int(text[-1])
        pause.wait(0.02)
    raise AssertionError(f"nothing was written to {path}")
