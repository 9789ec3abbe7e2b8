"""`--references NAME,…`: variants that the others are measured against, and that no budget's answer names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deploy.results import ResultRow
from stereo.errors import UserError


def as_references(rows: Sequence[ResultRow], names: Sequence[str]) -> list[ResultRow]:
    """The rows, those of the named variants in the role "reference".

    Raises:
        UserError: a name that no row has.
    """
    known = {row.model.variant for row in rows}
    for name in names:
        if name not in known:
            raise UserError(f"no variant of the results is called '{name}'", where="--references",
                            fix=f"give one of {', '.join(sorted(known))}")  # fmt: skip
    # One file can have had several names.
    files = {row.model.sha256 for row in rows if row.model.variant in names} - {None}
    return [
        replace(row, model=replace(row.model, role="reference"))
        if row.model.variant in names or row.model.sha256 in files
        else row
        for row in rows
    ]
