"""Small tables on stderr, for people who wait at the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text


def print_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None, stderr: bool = True
) -> None:
    """Print a table; cells are taken literally, so that names with brackets in them are not read as markup."""
    table = Table(*(Column(name, overflow="fold") for name in head), title=None if title is None else Text(title))
    for row in rows:
        table.add_row(*map(Text, row))
    Console(stderr=stderr).print(table)
