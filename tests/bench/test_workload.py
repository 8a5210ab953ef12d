"""The document of a workload: it survives YAML, knows its hash, and refuses what makes no sense by the field's name."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.bench.errors import InvalidWorkload
from allocator.bench.plan import plan
from allocator.bench.workload import Workload
from allocator.bench.workloads import named, names
from tests.bench.workloads import a_workload

SECONDS = st.floats(0.001, 1e6)
SHARES = st.floats(0, 1)
WEIGHTS = st.floats(0.001, 1e6)
# Few characters, among them what YAML would take for something else.
TEXT = st.text("aé1.:#-?{}[]'\"\\ \n\t~", max_size=12)
NAME = TEXT.filter(bool)

DURATIONS = st.one_of(
    st.fixed_dictionaries({"model": st.just("constant"), "seconds": SECONDS}),
    SECONDS.map(lambda low_s: {"model": "uniform", "low_s": low_s, "high_s": 2 * low_s}),
    st.fixed_dictionaries({"model": st.just("exponential"), "mean_s": SECONDS}),
    st.fixed_dictionaries({"model": st.just("lognormal"), "median_s": SECONDS, "sigma": SHARES}),
    st.fixed_dictionaries({"model": st.just("bimodal"), "p": SHARES, "a_s": SECONDS, "b_s": SECONDS}),
)
SIZES = st.one_of(
    st.fixed_dictionaries({"model": st.just("constant"), "bytes": st.integers(0, 1000)}),
    st.fixed_dictionaries(
        {"model": st.just("uniform"), "low_bytes": st.integers(0, 9), "high_bytes": st.integers(9, 99)}
    ),
    st.fixed_dictionaries({"model": st.just("lognormal"), "median_bytes": st.integers(1, 1000), "sigma": SHARES}),
    st.fixed_dictionaries(
        {"model": st.just("choice"), "weights": st.dictionaries(st.integers(0, 9), WEIGHTS, min_size=1)}
    ),
)
ARRIVALS = st.one_of(
    st.fixed_dictionaries({"model": st.sampled_from(["constant", "poisson"]), "rate_per_s": WEIGHTS}),
    st.fixed_dictionaries(
        {
            "model": st.just("onoff"),
            "on_s": SECONDS,
            "off_s": SECONDS,
            "on_rate_per_s": WEIGHTS,
            "off_rate_per_s": WEIGHTS,
        }
    ),
    st.fixed_dictionaries({"model": st.just("ramp"), "from_rate_per_s": SHARES, "to_rate_per_s": WEIGHTS}),
    st.fixed_dictionaries({"model": st.just("trace"), "file": NAME, "speed": WEIGHTS}),
)
FAULTS = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(["flushall", "script_flush", "kill_worker"]), "at_s": st.just(1)}),
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["pause_worker", "pause_server", "pause_producers"]), "seconds": SECONDS},
    ).map(lambda fault: fault | {"at_s": 2.5}),
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "name": st.text("aZ09_.-", min_size=1, max_size=64),
        "arrival": ARRIVALS,
        "duration_s": st.floats(60, 1e6),
        "service": DURATIONS,
    },
    optional={
        "description": TEXT,
        "seed": st.integers(0, 2**63 - 1),
        "delay": DURATIONS,
        "delayed_share": SHARES,
        "failure": st.fixed_dictionaries({"p_error": st.one_of(SHARES, st.lists(SHARES, min_size=1, max_size=3))}),
        "types": st.dictionaries(NAME, WEIGHTS, min_size=1, max_size=3),
        "priorities": st.dictionaries(st.integers(-1000, 1000), WEIGHTS, min_size=1, max_size=3),
        "payload_bytes": SIZES,
        "faults": st.lists(FAULTS, max_size=3).map(lambda faults: sorted(faults, key=lambda fault: fault["at_s"])),
    },
)


@given(DOCUMENTS)
@settings(max_examples=40, deadline=None)
def test_yaml_gives_back_the_same_workload(document: dict[str, Any]) -> None:
    """Whatever can be said survives being written and read, and so does the hash."""
    workload = Workload.model_validate(document)

    again = Workload.from_yaml(workload.to_yaml())

    assert again == workload
    assert again.hash == workload.hash
    assert Workload.from_yaml(workload.to_yaml(defaults=False)) == workload


def test_a_workload_is_read_from_a_file(tmp_path: Path) -> None:
    """A Path is a file, and the text in it is the document."""
    (tmp_path / "mine.yaml").write_text(a_workload(description="größer?").to_yaml(), "utf-8")

    read = Workload.from_yaml(tmp_path / "mine.yaml")

    assert read.description == "größer?"


def test_the_hash_tells_documents_apart_and_nothing_else() -> None:
    """Defaults said or unsaid, 60 or 60.0, and the order of weights make no difference; every value does."""
    workload = a_workload(priorities={0: 1, 5: 2})

    assert a_workload(priorities={5: 2, 0: 1.0}, duration_s=60.0, producers=1).hash == workload.hash
    assert workload.changed(seed=2).hash != workload.hash


def test_a_changed_workload_is_checked_anew() -> None:
    """A change is refused like a document, and leaves the workload itself alone."""
    workload = a_workload()

    with pytest.raises(InvalidWorkload, match=r"^workers\.count: "):
        workload.changed(workers={"count": 0})

    assert workload.changed(seed=9).seed == 9
    assert workload.seed == 1


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("arrival.rate_per_s", {"arrival": {"model": "poisson", "rate_per_s": 0}}),
    ("arrival.rate_per_s", {"arrival": {"model": "constant", "rate_per_s": float("nan")}}),
    ("arrival.rate_per_s", {"arrival": {"model": "constant", "rate_per_s": 1e9}}),
    ("arrival.on_rate_per_s", {"arrival": {"model": "onoff", "on_s": 1, "off_s": 1, "on_rate_per_s": 0}}),
    ("arrival.off_s", {"arrival": {"model": "onoff", "on_s": 1, "off_s": -1, "on_rate_per_s": 1}}),
    ("arrival.on_rate_per_s", {"arrival": {"model": "onoff", "on_s": 100, "off_s": 1, "on_rate_per_s": 1e308}}),
    ("arrival", {"arrival": {"model": "ramp", "from_rate_per_s": 0, "to_rate_per_s": 0}}),
    ("arrival", {"arrival": {"model": "steps", "rates": [{"at_s": 1, "rate_per_s": 5}]}}),
    ("arrival", {"arrival": {"model": "bursty"}}),
    ("arrival", {"arrival": {"rate_per_s": 10}}),
    ("arrival.clients", {"arrival": {"model": "closed", "clients": 0}, "jobs": 5, "duration_s": None}),
    ("arrival.speed", {"arrival": {"model": "trace", "file": "bursty.csv", "speed": 0}}),
    ("arrival.file", {"arrival": {"model": "trace", "file": "missing.csv"}}),
    ("arrival.file", {"arrival": {"model": "trace", "file": "a" * 5000}}),
    ("description", {"description": "\ud800"}),
    ("service.rate", {"service": {"model": "constant", "seconds": 1, "rate": 1}}),
    ("service.seconds", {"service": {"model": "constant", "seconds": -0.1}}),
    ("service", {"service": {"model": "uniform", "low_s": 2, "high_s": 1}}),
    ("service", {"service": {"model": "pareto"}}),
    ("duration_s", {"duration_s": 0}),
    ("duration_s", {"duration_s": -1}),
    ("duration_s", {"duration_s": None}),
    ("duration_s", {"duration_s": 1e-9}),
    (
        "duration_s",
        {"arrival": {"model": "ramp", "from_rate_per_s": 1, "to_rate_per_s": 2}, "duration_s": None, "jobs": 9},
    ),
    (
        "duration_s",
        {"arrival": {"model": "steps", "rates": [{"at_s": 0, "rate_per_s": 1}]}, "duration_s": None, "jobs": 9},
    ),
    ("jobs", {"jobs": 10}),
    ("jobs", {"jobs": 0, "duration_s": None}),
    ("jobs", {"jobs": 10_000_001, "duration_s": None}),
    ("jobs", {"arrival": {"model": "closed", "clients": 2}}),
    ("together", {"together": 0}),
    ("together", {"together": 2, "arrival": {"model": "closed", "clients": 2}, "jobs": 5, "duration_s": None}),
    ("jobs", {"arrival": {"model": "trace", "file": "bursty.csv"}, "duration_s": None, "jobs": 3001}),
    ("warmup_s", {"warmup_s": -1}),
    ("warmup_s", {"warmup_s": 60}),
    ("warmup_s", {"warmup_s": True}),
    ("warmup_s", {"warmup_s": 1e6, "duration_s": None, "jobs": 5}),
    ("drain_s", {"drain_s": -1}),
    ("seed", {"seed": -1}),
    ("name", {"name": "two words"}),
    ("types", {"types": {"a": 0, "b": 0}}),
    ("types", {"types": {}}),
    ("types.a", {"types": {"a": 1e308, "b": 1}}),
    ("types.a", {"types": {"a": -1, "b": 2}}),
    ("priorities", {"priorities": {0: 0}}),
    ("priorities[1001]", {"priorities": {1001: 1}}),
    ("payload_bytes.weights", {"payload_bytes": {"model": "choice", "weights": {10: 0}}}),
    ("payload_bytes.bytes", {"payload_bytes": {"model": "constant", "bytes": 2**20}}),
    ("payload_bytes", {"payload_bytes": {"model": "lognormal", "median_bytes": 500_000, "sigma": 1}}),
    ("delay", {"delay": {"model": "lognormal", "median_s": 3e8, "sigma": 1}}),
    ("delayed_share", {"delayed_share": 1.1}),
    ("failure.p_error[1]", {"failure": {"p_error": [0.5, 1.5]}}),
    ("failure", {"failure": {"p_error": 0.6, "p_hang": 0.6}, "timeout_s": 1}),
    ("failure.p_crash", {"failure": {"p_crash": 0.1}}),
    ("failure.first_k", {"failure": {"first_k": 4}}),
    ("timeout_s", {"failure": {"p_hang": 0.1}}),
    ("retry.max_retries", {"retry": {"max_retries": 100}, "failure": {"p_poison": 0.1}}),
    ("workers.kind", {"failure": {"p_hang": 0.5}, "timeout_s": 0.1}),
    ("workers.kind", {"service": {"model": "constant", "seconds": 0.2}, "timeout_s": 0.1}),
    ("faults[0].at_s", {"faults": [{"kind": "flushall", "at_s": -1}]}),
    ("faults[0].at_s", {"faults": [{"kind": "flushall", "at_s": 1000}]}),
    ("faults[1].at_s", {"faults": [{"kind": "flushall", "at_s": 2}, {"kind": "script_flush", "at_s": 1}]}),
    ("faults[0].seconds", {"faults": [{"kind": "pause_server", "at_s": 1}]}),
    ("faults[0].number", {"faults": [{"kind": "kill_worker", "at_s": 1, "number": 1}]}),
    ("faults[0].target", {"faults": [{"kind": "kill_worker", "at_s": 1, "target": "process"}]}),
    ("faults[0]", {"faults": [{"kind": "earthquake", "at_s": 1}]}),
    ("backend", {"backend": "redis"}),
]


@pytest.mark.parametrize(("field", "fields"), REFUSED, ids=[f"{field}-{n}" for n, (field, _) in enumerate(REFUSED)])
def test_what_makes_no_sense_is_refused_by_name(field: str, fields: dict[str, Any]) -> None:
    """Before anything starts: when the workload is made, or when it is planned."""
    with pytest.raises(InvalidWorkload) as refused:
        plan(a_workload(**fields))

    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")


def test_an_unknown_model_is_told_what_there_is() -> None:
    """The message lists the models by the names that the document uses."""
    with pytest.raises(
        InvalidWorkload, match="no 'bursty'; there are closed, constant, poisson, onoff, ramp, steps, trace"
    ):
        a_workload(arrival={"model": "bursty"})


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Two wrong fields are named in one message."""
    with pytest.raises(InvalidWorkload, match=r"^seed: .*; drain_s: "):
        a_workload(seed=-1, drain_s=-1)


@pytest.mark.parametrize(
    "text",
    ["name: [", "- 1", "steady.yaml", "", "seed: 2020-99-99", f"seed: {'9' * 5000}", "[" * 3000],
    ids=["broken", "list", "name", "nothing", "no date", "digits", "deep"],
)
def test_what_is_no_document_is_refused(text: str) -> None:
    """Broken YAML, a list, a file's name in place of its text, and nothing at all."""
    with pytest.raises(InvalidWorkload, match=r"^workload: "):
        Workload.from_yaml(text)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """By its name; so a damaged run is told from one that is whole."""
    (tmp_path / "w.yaml").write_bytes(b"name: \xff")

    with pytest.raises(InvalidWorkload, match=r"^workload: .*w\.yaml is no text in UTF-8"):
        Workload.from_yaml(tmp_path / "w.yaml")


def test_a_field_that_is_given_twice_is_refused() -> None:
    """Only the last would count, and nobody would know: the message names the line."""
    text = a_workload().to_yaml() + "seed: 7\n"

    with pytest.raises(InvalidWorkload, match=r"found 'seed' twice(.|\n)*line \d+"):
        Workload.from_yaml(text)


def test_the_named_workloads_are_those_promised() -> None:
    """All of them are there, by these names."""
    assert names() == sorted(
        [
            "steady",
            "saturation",
            "burst",
            "ramp",
            "priority-mix",
            "delayed",
            "retry-storm",
            "poison",
            "big-payloads",
            "trace",
            "chaos",
        ]
    )


@pytest.mark.parametrize("name", names())
def test_a_named_workload_asks_a_question_and_can_be_planned(name: str) -> None:
    """Its name is that of its file, its description a question, and its run can finish."""
    workload = named(name)

    planned = plan(workload)

    assert workload.name == name
    assert workload.description.endswith("?")
    assert len(planned.jobs) >= 1000
    assert (planned.utilisation or 0) > 1 if name == "saturation" else (planned.utilisation or 0) < 1


def test_an_unknown_name_is_told_what_there_is() -> None:
    """The message lists the names."""
    with pytest.raises(InvalidWorkload, match="no workload 'stedy'; there are big-payloads, burst,"):
        named("stedy")
