"""Claims are data: each can be decided, and one that cannot is refused by name."""

import re
from pathlib import Path

import pytest

from allocator.report.claims import COMPONENTS, BadClaim, load_claims
from allocator.report.testing import checkout, named_tests

WRONG = {
    "no evidence": ('text = "It is fast."', r"one of measure, tests, promise and compared"),
    "two kinds": (
        'text = "x"\ntests = ["tests/x.py"]\nmeasure = "a/b"\ntarget = "< 1 s"',
        r"one of measure, tests, promise and compared decides a claim; this one has measure and tests",
    ),
    "no target": ('text = "x"\nmeasure = "redis/wait_p99_s"', r"measure and target go together"),
    "a target in words": ('text = "x"\nmeasure = "a/b"\ntarget = "fast"', r"target: .*'fast' is no target"),
    "an unknown field": ('text = "x"\ntests = ["t.py"]\nstatus = "PASS"', r"status: "),
    "an unknown promise": ('text = "x"\nbackends = ["redis"]\npromise = "all is well"', r"promise: "),
    "a promise of nobody": ('text = "x"\npromise = "nothing is invented"', r"promise: runs are of a backend"),
    "an unknown backend": ('text = "x"\nbackends = ["kafka"]\ntests = ["t.py"]', r"backends: must be a list of memory"),
    "no text": ('tests = ["t.py"]', r"text: "),
}


@pytest.mark.parametrize(("entry", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_bad_entry_is_refused_by_name(tmp_path: Path, entry: str, said: str) -> None:
    """File, number, id and field: enough to go there and put it right."""
    component = "" if "backends" in entry else 'component = "yours"\n'
    (tmp_path / "own.toml").write_text(f'[[claim]]\nid = "mine"\n{component}{entry}\n', "utf-8")

    with pytest.raises(BadClaim, match=rf"own\.toml: claim 1 \(mine\): {said}"):
        load_claims(tmp_path / "own.toml")


def test_a_claim_of_a_users_own_stands_beside_the_products(tmp_path: Path) -> None:
    """A service level of an application is one more entry."""
    own = '[[claim]]\nid = "ours"\ncomponent = "yours"\ntext = "We wait {target} at most."\n'
    (tmp_path / "own.toml").write_text(f'{own}measure = "redis/wait_p99_s"\ntarget = "<= 0.02 s"\n', "utf-8")

    mine = load_claims(tmp_path / "own.toml")[-1]

    assert (mine.id, mine.sentence) == ("ours", "We wait 20 ms at most.")


def test_two_claims_of_one_name_are_refused(tmp_path: Path) -> None:
    """Results are kept by it."""
    (tmp_path / "own.toml").write_text('[[claim]]\nid = "end-to-end"\ncomponent = "yours"\ntext = "x"\ntests = ["t"]\n')

    with pytest.raises(BadClaim, match="claim end-to-end: id: there are two"):
        load_claims(tmp_path / "own.toml")


def test_the_products_claims_write_no_figure_out() -> None:
    """A figure in a claim is its target, bound; percentiles are names."""
    texts = [claim.text for claim in load_claims()]

    assert [text for text in texts if re.search(r"\d", re.sub(r"\bp\d+\b", "", text))] == []


def test_every_component_has_a_claim() -> None:
    """Each tile of the first screen says something."""
    assert {claim.component for claim in load_claims()} == set(COMPONENTS)


def test_the_tests_that_claims_name_exist() -> None:
    """A test that was renamed takes its claim along, or this fails."""
    root = checkout()
    assert root is not None

    missing = []
    for test in named_tests(load_claims()):
        file, _, name = test.partition("[")[0].partition("::")
        if not (root / file).exists() or (name and f"def {name}(" not in (root / file).read_text("utf-8")):
            missing.append(test)

    assert missing == []
