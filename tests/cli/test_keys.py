"""`allocator keys`, as a person or a script uses it."""

import json
from pathlib import Path

import pytest

from allocator.persistence import Keys, open_store
from tests.cli.test_cli import run


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """Of an empty store."""
    return f"sqlite:///{tmp_path / 'store.db'}"


def test_a_key_is_made_shown_once_and_revoked(store_url: str) -> None:
    """The key alone on standard output; lists show its id and name."""
    made = run("keys", "create", "backup [red]", "-s", store_url)
    secret = made.stdout.strip()
    with open_store(store_url) as store:
        known = Keys(store).check(secret)
    assert known is not None
    table, listed = run("keys", "list", "-s", store_url), run("keys", "list", "--json", "-s", store_url)

    revoked = run("keys", "revoke", known.id, "--json", "-s", store_url)
    again = run("keys", "revoke", known.id, "-s", store_url)

    assert made.stdout == f"{secret}\n"
    assert f"allocator keys revoke {known.id}" in made.stderr
    assert known.id in table.stdout
    assert "backup [red]" in table.stdout
    assert [(one["id"], one["revoked_at"]) for one in json.loads(listed.stdout)] == [(known.id, None)]
    assert secret not in table.stdout + listed.stdout + revoked.stdout + again.stdout + made.stderr
    assert json.loads(revoked.stdout)["revoked_at"] >= known.created_at
    assert (revoked.exit_code, again.exit_code) == (0, 0)
    with open_store(store_url) as store:
        assert Keys(store).check(secret) is None


def test_what_there_is_no_key_for_is_told(store_url: str) -> None:
    """An empty list is none; an unknown id is exit status 1, a name that cannot be 2."""
    none = run("keys", "list", "-s", store_url)
    unknown = run("keys", "revoke", "nobody", "-s", store_url)
    nameless = run("keys", "create", "", "--json", "-s", store_url)
    as_json = run("keys", "create", "ci", "--json", "-s", store_url)

    assert (none.exit_code, none.stdout) == (0, "no keys; make one: allocator keys create NAME\n")
    assert unknown.exit_code == 1
    assert "no key nobody" in unknown.stderr
    assert nameless.exit_code == 2
    assert "name: " in nameless.stderr
    assert json.loads(as_json.stdout)["key"].startswith(f"alc_{json.loads(as_json.stdout)['id']}_")
