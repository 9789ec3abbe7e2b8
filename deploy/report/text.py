"""How a report writes numbers and places; a missing number is words, never 0."""

from __future__ import annotations

from deploy.report.entries import Entry
from deploy.results import ResultRow

NOT_MEASURED = "not measured"
UNDEFINED = "not defined"
MB = 1e6


def number(value: float | None, *, digits: int = 3) -> str:
    """A number with so many significant digits, never in exponent form."""
    if value is None:
        return NOT_MEASURED
    if value == 0:
        return "0"
    # The exponent after rounding, so that 9.996 is 10.0 and not 10.00.
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def place(entry: Entry) -> str:
    """Runtime and precision hint, such as "openvino bf16"."""
    return f"{entry.place.runtime} {entry.place.precision_hint}"


def label(entry: Entry) -> str:
    """Variant with how it ran, at which size."""
    at = "" if entry.place.height is None else f", {size(entry)}"
    return f"{entry.model.variant} ({place(entry)}{at})"


def size(entry: Entry) -> str:
    """Network size as HEIGHTxWIDTH."""
    if entry.place.height is None:
        return "each image's own size"
    return f"{entry.place.height}x{entry.place.width}"


def setting(entry: Entry) -> str:
    """Everything a number depends on, in one line."""
    where = entry.place
    parts = [
        where.device,
        f"{where.runtime} {where.runtime_version}",
        f"precision hint {where.precision_hint}",
        f"{where.threads} thread{'s' if where.threads != 1 else ''}",
        size(entry),
    ]
    if where.power_mode:
        parts.append(f"power mode {where.power_mode}")
    for name, value in (("max disparity", entry.model.max_disp), ("iterations", entry.model.iterations)):
        if value is not None:
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def origin(entry: Entry, row: ResultRow | None) -> str:
    """The setting with kind, time and commit of the row a number comes from."""
    if row is None:
        return NOT_MEASURED
    return f"{row.kind} on {setting(entry)}; {row.made_at}, commit {row.commit or 'unknown'}"


def caveats(entry: Entry) -> list[str]:
    """What its rows warn of, each once; what comes with a borrowed accuracy is not about this place, and says so."""
    if entry.accuracy_from is None:
        return list(entry.problems)
    own = [problem for row in entry.rows if row not in entry.accuracy_rows for problem in row.problems]
    lent = [problem for row in entry.accuracy_rows for problem in row.problems]
    return list(dict.fromkeys([*own, *(f"its accuracy is from {entry.accuracy_from}: {problem}" for problem in lent)]))
