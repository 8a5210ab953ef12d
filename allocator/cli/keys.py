"""`allocator keys`: who may use the API."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from allocator.cli.failing import fail
from allocator.cli.opening import open_record
from allocator.cli.options import AsJson, StoreUrl, settings, utc

if TYPE_CHECKING:
    from allocator.persistence import Keys, Store

keys = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="API keys: make, list, revoke.")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what is to have it.")],
    store: StoreUrl = settings.store_url,
    as_json: AsJson = False,
) -> None:
    """
    Make a key for the API of the store. It is shown once: the store keeps a hash of it, and nobody can show it again.

    Clients send it as `Authorization: Bearer KEY`.

    Examples: `allocator keys create "backup of the office"`, `allocator keys create ci --json | jq -r .key`
    """
    with open_record(store) as opened:
        try:
            made, secret = _keys(opened).create(name)
        except ValueError as error:
            fail(str(error))
    if as_json:
        print(msgspec.json.encode({**msgspec.structs.asdict(made), "key": secret}).decode())
        return
    # The key alone on standard output, so that it can be piped to where it belongs.
    print(secret)
    Console(stderr=True).print(
        Text(f"key {made.id} for {name}, shown this once; to end it: allocator keys revoke {made.id}"),
        highlight=False,
        soft_wrap=True,
    )


@keys.command("list")
def list_keys(store: StoreUrl = settings.store_url, as_json: AsJson = False) -> None:
    """
    List the keys of the store, revoked ones included, oldest first. When one was used last is exact to a minute.

    Examples: `allocator keys list`, `allocator keys list --json`
    """
    with open_record(store) as opened:
        found = _keys(opened).all()
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    table = Table(title="API keys")
    table.add_column("id", no_wrap=True)
    for heading in ("name", "made at (UTC)", "last used at", "revoked at"):
        table.add_column(heading, overflow="fold")
    for key in found:
        instants = ("" if at is None else utc(at) for at in (key.created_at, key.last_used_at, key.revoked_at))
        table.add_row(Text(key.id), Text(key.name), *instants, style="dim" if key.revoked_at is not None else None)
    Console().print(table if found else "no keys; make one: allocator keys create NAME")


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `allocator keys list` shows it.")],
    store: StoreUrl = settings.store_url,
    as_json: AsJson = False,
) -> None:
    """
    Revoke a key: the next request that shows it is refused. Exit status 1 when there is none of this id.

    Example: `allocator keys revoke 0f3c9a52d1e87b46`
    """
    with open_record(store) as opened:
        revoked = _keys(opened).revoke(key_id)
    if revoked is None:
        fail(f"the store has no key {key_id}; see them: allocator keys list", status=1)
    assert revoked.revoked_at is not None
    if as_json:
        print(msgspec.json.encode(revoked).decode())
        return
    print(f"key {revoked.id} of {revoked.name}: revoked at {utc(revoked.revoked_at)} UTC")


def _keys(store: "Store") -> "Keys":
    from allocator.persistence import Keys

    return Keys(store)
