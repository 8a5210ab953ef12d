"""`allocator bench`, as a person or a script uses it."""

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from allocator.bench.runs import Run, run
from allocator.cli import app
from allocator.persistence import open_store
from allocator.persistence.runs import Runs
from tests.bench.runs.small import small


def bench(*arguments: str | Path) -> Result:
    """The command in this process."""
    return CliRunner().invoke(app, ["bench", *map(str, arguments)], prog_name="allocator")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that holds, in a folder of runs of its own."""
    return run(small(duration_s=0.5), folder=tmp_path_factory.mktemp("runs"))


@pytest.fixture
def runs(kept: Run, tmp_path: Path) -> Path:
    """A folder with a copy of it."""
    shutil.copytree(kept.folder, tmp_path / "runs" / kept.folder.name)
    return tmp_path / "runs"


def a_file(folder: Path, **fields: object) -> Path:
    """A workload in a file."""
    path = folder / "mine.yaml"
    path.write_text(small(name="mine", **fields).to_yaml(), "utf-8")
    return path


def test_a_run_that_holds_ends_with_0_and_is_written_down(tmp_path: Path) -> None:
    """As JSON for scripts; with a store, there too."""
    store_url = f"sqlite:///{tmp_path / 'store.db'}"

    done = bench(
        "run", a_file(tmp_path, duration_s=0.3), "--seed", "7", "--runs", tmp_path / "runs", "-s", store_url, "--json"
    )

    told = json.loads(done.stdout)
    with open_store(store_url) as store:
        (written,) = Runs(store).newest()
    assert done.exit_code == 0
    assert told["verdict"] == "holds"
    assert told["figures"]["jobs"] == 30
    assert Run(Path(told["folder"])).workload.seed == 7
    assert (written.id, written.name) == (told["about"]["id"], "mine")


def test_a_run_with_a_job_store_is_judged_by_it(tmp_path: Path) -> None:
    """In process too: promises about the store are then judged."""
    done = bench("run", a_file(tmp_path, duration_s=0.3), "--job-store", "sqlite", "--runs", tmp_path, "--json")

    verdicts = {verdict["promise"]: verdict["status"] for verdict in json.loads(done.stdout)["verdicts"]}
    assert done.exit_code == 0
    assert verdicts["no illegal transition in the store"] == "holds"


@pytest.mark.parametrize(("verdict", "status"), [("holds", 0), ("broken", 1), ("inconclusive", 3)])
def test_the_exit_status_of_a_run_tells_its_verdict(
    verdict: str, status: int, runs: Path, kept: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1: a promise was broken; 3: a gate failed, so that the figures decide nothing."""
    about = json.loads((runs / kept.about.id / "run.json").read_text("utf-8"))
    about |= {"problem": "a worker ended" if verdict == "broken" else None, "interrupted": False}
    about["offset_start_s"], about["offset_end_s"] = (1.0, 2.0) if verdict == "inconclusive" else (1.0, 1.0)
    (runs / kept.about.id / "run.json").write_text(json.dumps(about), "utf-8")
    monkeypatch.setattr("allocator.bench.runs.run", lambda *_, **__: Run(runs / kept.about.id))

    done = bench("run", a_file(tmp_path), "--runs", runs)

    assert done.exit_code == status
    assert f": {verdict}" in done.stdout


def test_ctrl_c_ends_a_run_with_130_and_keeps_it(tmp_path: Path) -> None:
    """Once there is something to keep."""
    ended = threading.Event()
    pressing = threading.Thread(target=press_ctrl_c, args=(tmp_path / "runs", ended))
    pressing.start()

    done = bench("run", a_file(tmp_path, duration_s=60), "--runs", tmp_path / "runs", "--json")

    ended.set()
    pressing.join()
    told = json.loads(done.stdout)
    assert done.exit_code == 130
    assert told["about"]["interrupted"]
    assert told["verdict"] == "inconclusive"
    assert told["figures"]["states"]["done"] > 0
    assert Run(Path(told["folder"])).verify() == []


def press_ctrl_c(runs: Path, ended: threading.Event) -> None:
    """As soon as a job is done, of which a run keeps counters while it goes on."""
    while not ended.wait(0.02):
        if any(any(path.read_bytes()) for path in runs.glob("*/records/*.waits")):
            os.kill(os.getpid(), signal.SIGINT)
            return


@pytest.mark.parametrize(
    ("name", "text"), [("run.json", None), ("run.json", "{"), ("workload.yaml", "name: ''"), ("figures.json", "{}")]
)
def test_runs_are_listed_with_those_that_are_damaged(name: str, text: str | None, runs: Path, kept: Run) -> None:
    """Newest first; a folder that holds no run, or one that was damaged, hides no other."""
    damaged = Path(shutil.copytree(kept.folder, runs / "[red]a")) / name
    damaged.unlink() if text is None else damaged.write_text(text, "utf-8")

    listed, shown = json.loads(bench("list", "--runs", runs, "--json").stdout), bench("list", "--runs", runs)

    assert [each["id"] for each in listed] == ["[red]a", kept.about.id]
    assert [each["verdict"] for each in listed] == ["damaged", "holds"]
    assert listed[0]["problem"]
    assert listed[1]["jobs"] == 50
    assert "damaged" in shown.stdout
    assert "[red]a" in shown.stdout
    assert shown.exit_code == 0


def test_where_there_are_no_runs_the_list_says_so(tmp_path: Path) -> None:
    """And is empty for scripts."""
    assert "no runs in" in bench("list", "--runs", tmp_path / "none").stdout
    assert json.loads(bench("list", "--runs", tmp_path / "none", "--json").stdout) == []


def test_a_run_is_shown_by_the_beginning_of_its_id(runs: Path, kept: Run) -> None:
    """With its figures and what the checker says."""
    shown = bench("show", kept.about.id[:15], "--runs", runs)

    assert shown.exit_code == 0
    assert f"run {kept.about.id}: holds" in shown.stdout
    assert "sojourn" in shown.stdout
    assert "11 of 12 promises hold" in shown.stdout


@pytest.mark.parametrize(
    ("run_id", "said"), [("2097", "there is no run 2097"), ("20", "may be"), ("20990101T000000-x", "holds no run")]
)
def test_a_run_that_cannot_be_found_is_named(run_id: str, said: str, runs: Path) -> None:
    """None, several, or one that cannot be read: exit status 2."""
    (runs / "20980101T000000-y").mkdir()
    (runs / "20990101T000000-x").mkdir()

    shown = bench("show", run_id, "--runs", runs)

    assert shown.exit_code == 2
    assert said in shown.stderr


def test_a_run_is_verified(runs: Path, kept: Run) -> None:
    """Exit status 1 where a figure does not follow from the rows."""
    sound = bench("verify", kept.about.id, "--runs", runs)
    figures = runs / kept.about.id / "figures.json"
    figures.write_text(figures.read_text("utf-8").replace('"jobs": 50', '"jobs": 51'), "utf-8")
    edited = bench("verify", kept.about.id, "--runs", runs, "--json")

    assert sound.exit_code == 0
    assert edited.exit_code == 1
    assert json.loads(edited.stdout)["problems"] == ["figures.json: figures.jobs is 51, and 50 by the rows"]


def test_a_run_is_exported_as_csv_and_json(runs: Path, kept: Run, tmp_path: Path) -> None:
    """A line a row, and everything that was computed."""
    done = bench("export", kept.about.id, "--runs", runs, "-o", tmp_path / "out")

    assert done.exit_code == 0
    assert len((tmp_path / "out" / "jobs.csv").read_text("utf-8").splitlines()) == 51
    told = json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))
    assert told["about"]["id"] == kept.about.id
    assert told["verdict"] == "holds"

    again = bench("export", kept.about.id, "--runs", runs, "-o", tmp_path / "out" / "jobs.csv")

    assert again.exit_code == 2
    assert "jobs.csv" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nothing-like-it"], "nothing-like-it"),
        (["run", "steady", "--backend", "rabbit"], "backend: must be memory, redis, postgres"),
        (["run", "steady", "--job-store", "oracle"], "store: must be none, sqlite, postgres"),
        (["run", "steady", "--duration", "4"], "warmup_s: 5 leaves nothing"),
        (["capacity", "burst", "--from", "10", "--to", "20"], "slo.wait_s_p99: is missing"),
        (["capacity", "steady", "--from", "20", "--to", "10"], "low_per_s must be above 0 and below"),
        (["curve", "burst", "--rates", "10"], "arrival.model: onoff has no rate"),
        (["curve", "steady", "--rates", "10,fast"], "--rates: '10,fast' are no numbers"),
        (["scaling", "steady", "--workers", "0"], "workers: give at least one number"),
        (["scaling", "steady", "--workers", "1.5"], "--workers: '1.5' are no numbers"),
        (["scaling", "steady", "--workers", "nan"], "--workers: 'nan' are no numbers"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(arguments: list[str], said: str, tmp_path: Path) -> None:
    """With exit status 2, before anything is started."""
    done = bench(*arguments, "--runs", tmp_path)

    assert done.exit_code == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_workloads_that_come_along_are_listed_with_their_questions() -> None:
    """Ten of them."""
    listed = json.loads(bench("workloads", "--json").stdout)

    assert {"steady", "saturation", "retry-storm"} < set(listed)
    assert all(question.endswith("?") for question in listed.values())


def test_throughput_is_measured_against_workers(tmp_path: Path) -> None:
    """A closed loop for each number of them."""
    done = bench("scaling", a_file(tmp_path), "--workers", "1,2", "--jobs", "30", "--runs", tmp_path, "--json")

    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert [point["workers"] for point in told["points"]] == [1, 2]
    assert told["points"][1]["throughput_per_s"] > 0
    assert [len(ids) for ids in told["runs"].values()] == [1, 1]


def test_latency_is_measured_against_load(tmp_path: Path) -> None:
    """A run a rate, ascending; the knee is told where there are enough jobs for p99 near 20 % load, else not."""
    done = bench("curve", a_file(tmp_path), "--rates", "80,40", "--duration", "0.2", "--runs", tmp_path, "--json")

    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert [point["rate_per_s"] for point in told["points"]] == [40, 80]
    assert told["points"][0]["p99_s"] is None
    assert told["knee"]["sentence"].startswith("No knee can be told")
