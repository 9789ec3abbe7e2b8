"""Where every number of an entry comes from, as (name, value) pairs."""

from __future__ import annotations

from deploy.report.entries import Entry
from deploy.report.text import number, size
from deploy.results import ResultRow

UNKNOWN = "unknown"


def facts(entry: Entry) -> list[tuple[str, str]]:
    """What holds for all numbers of an entry."""
    model, where = entry.model, entry.place
    pairs: list[tuple[str, object]] = [
        ("kind", entry.kind),
        ("device", where.device),
        ("runtime", f"{where.runtime} {where.runtime_version}"),
        ("precision hint", where.precision_hint),
        ("threads", where.threads),
        ("power mode", where.power_mode or "the system does not tell"),
        ("network size", size(entry)),
        ("preset", model.preset),
        ("precision in the file", model.precision),
        ("max disparity", model.max_disp),
        ("iterations", model.iterations),
        ("file", model.path or "none"),
        ("file sha256", model.sha256 or "none"),
        ("source sha256", model.source_sha256),
        *((key.removeprefix("runtime.").replace("_", " "), value) for key, value in where.notes.items()),
    ]
    if entry.replaced:
        pairs.append(("older measurements", f"{entry.replaced} of the same were replaced by newer ones"))
    pairs += [("problem", problem) for problem in entry.problems]
    return [(name, UNKNOWN if value is None else str(value)) for name, value in pairs]


def other_times(entry: Entry) -> list[tuple[str, str]]:
    """The same variant timed without copies, and by another program; empty where neither was done."""
    row, pairs = entry.latency_row, []
    if row is not None and (bare := row.latency_without_copies) is not None:
        parts = [f"{name} {number(value)} ms" for name, value in
                 (("p50", bare.p50_ms), ("p90", bare.p90_ms), ("p99", bare.p99_ms))]  # fmt: skip
        told = f"{', '.join(parts)}; inputs already on the device, the output left there; n = {bare.n}"
        pairs.append(("without copies", told))
    if row is not None and (check := row.cross_check) is not None:
        known = (("compute p50", check.gpu_p50_ms, " ms"), ("with copies p50", check.p50_ms, " ms"),
                 ("throughput", check.pairs_per_s, " pairs/s"))  # fmt: skip
        told = ", ".join(f"{name} {number(value)}{unit}" for name, value, unit in known if value is not None)
        if check.difference_pct is not None:
            told += f"; ours differs by {check.difference_pct:+.1f} %"
        pairs.append((f"by {check.tool}", f"{told or UNKNOWN}; {check.command}"))
    return pairs


def sources(entry: Entry) -> list[tuple[str, list[tuple[str, str]]]]:
    """(what was measured, its time, commit, command and tools) of each row that an entry rests on."""
    return [(measured(row), stamp(row)) for row in entry.rows]


def measured(row: ResultRow) -> str:
    """What a row brings."""
    parts = []
    if row.latency:
        runs = f"{row.latency.n} runs after {row.latency.warmup} warm-up runs"
        parts.append(f"latency ({runs})" if row.kind == "measured" else "an estimate of the latency; nothing was run")
    if row.memory:
        parts.append("memory")
    if row.accuracy:
        names = ", ".join(dict.fromkeys(item.dataset for item in row.accuracy))
        parts.append(f"accuracy on {len(row.accuracy)} images of {names}")
    return ", ".join(parts) or "nothing"


def stamp(row: ResultRow) -> list[tuple[str, str]]:
    """When, with which code, command and tools."""
    tools = ", ".join(f"{name} {version}" for name, version in row.tools.items())
    return [("at", row.made_at or UNKNOWN), ("commit", row.commit or UNKNOWN), ("command", row.command or UNKNOWN),
            ("tools", tools or UNKNOWN)]  # fmt: skip
