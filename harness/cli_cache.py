"""The command `harness cache`: what the harness keeps that it can make again. Thin."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from harness.cli_progress import terminal

cache_app = typer.Typer(
    no_args_is_help=True, help="What is kept that can be made again: checkpoints, environments."
)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(cache_app, name="cache")


@cache_app.command("list")
def list_cache() -> None:
    """Print what lies in the cache, the least recently used first."""
    from rich.table import Table

    from harness.pruning import kept

    table = Table("kind", "what", "MB", "last used")
    things = kept()
    for each in things:
        used = f"{each.used:%Y-%m-%d %H:%M}"
        table.add_row(each.kind, each.words, f"{each.size / 1e6:.1f}", used)
    terminal().print(table)
    print(f"{len(things)} things, {sum(each.size for each in things) / 1e9:.2f} GB")


@cache_app.command("prune")
def prune_cache(
    *,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", help="what was not used for so long goes")
    ] = None,
    max_gb: Annotated[
        float | None, typer.Option(metavar="N", help="then the oldest, until so much is left")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="say what would go, and remove nothing")] = False,
) -> None:
    """Remove the least recently used, never what a running process uses; say what is removed.

    Exit code 0, also where there was nothing to remove, or all is in use.
    """
    from harness.pruning import Pruned, chosen, kept, prune

    now = dt.datetime.now(dt.timezone.utc)
    going = chosen(kept(), now=now, older_than=older_than, max_gb=max_gb)
    done = Pruned(removed=tuple(going), busy=()) if dry_run else prune(going)
    verb = "would go" if dry_run else "removed"
    for each in done.removed:
        when = f"{each.used:%Y-%m-%d}"
        print(f"{verb}: {each.kind}: {each.words} ({each.size / 1e6:.1f} MB, last used {when})")
    for kind in done.busy:
        print(f"{kind} are in use by a process that runs: none is removed; next: prune later")
    print(f"{len(done.removed)} {verb}, {sum(each.size for each in done.removed) / 1e9:.2f} GB")
