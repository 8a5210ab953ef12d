"""`allocator library`: the allocated tree."""

import json
from typing import Annotated

import typer

from allocator.cli.failing import fail
from allocator.cli.opening import open_archive
from allocator.cli.options import AsJson, DataFolder, StoreUrl, settings

library = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="The allocated tree, made of links.")


@library.callback()
def _library() -> None:
    """The allocated tree, made of links."""


@library.command("rebuild")
def rebuild(
    data: DataFolder = None,
    store: StoreUrl = settings.store_url,
    force: Annotated[
        bool, typer.Option("--force", help="Also where that deletes foreign files, or the database may be another's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """
    Make the library anew from the database; the present tree stays until the new one is complete.

    Refused where something else than links lies in it, which would be gone.

    Examples: `allocator library rebuild`, `allocator library rebuild --data ./files -s sqlite:///store.db`
    """
    from allocator.ingest import upkeep

    with open_archive(data, store) as archive:
        if not force:
            doubt = upkeep.doubts(archive)
            if doubt is not None:
                fail(
                    f"is {archive.store.where} the database of {archive.objects.root}? {doubt[0].upper()}{doubt[1:]}. "
                    "Name the right one with --store, or say --force"
                )
            strangers = [damage.path for damage in upkeep.foreign(archive)]
            if strangers:
                fail(
                    f"{len(strangers):,} things in the library are no links of ours, and would be deleted, such as "
                    f"{strangers[0]}; move them elsewhere, or say --force"
                )
        count = upkeep.rebuild(archive)
    print(json.dumps({"links": count}) if as_json else f"the library has {count:,} links")
