"""Rows of benchmarks as Markdown."""

from __future__ import annotations

from typing import Any

Rows = list[dict[str, Any]]
PACKED = {"VGG-Sound": 199_000, "AudioSet": 2_000_000}
"""Clips of the sets whose packing is reckoned."""


def machine_line(kept: dict[str, Any]) -> str:
    """Say where and when rows were measured."""
    machine = kept["machine"]
    return (
        f"*{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"torch {machine['torch']}, {machine['date']}.*"
    )


def table(head: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def figure(value: Any) -> str:
    """Return a number with three digits that count, "-" if there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def times(row: dict[str, Any]) -> str:
    """Return a row's ratio, "-" if nothing was compared."""
    return f"{row['ratio']:.2f}" if "ratio" in row else "-"


def plain_table(rows: Rows) -> str:
    """Return every row: both sides, their ratio (above 1: ours is better) and the threads of each side."""
    lines = [
        [
            f"`{row['benchmark']}`",
            figure(row["ours"]),
            figure(row.get("reference")),
            row["unit"],
            times(row),
            str(row.get("threads", row.get("cores", "-"))),
        ]
        for row in rows
    ]
    return table(["row", "ours", "reference", "unit", "ratio", "threads"], lines)


def loss_table(rows: Rows) -> str:
    """Return time and memory of the losses side by side."""
    by_name = {row["benchmark"]: row for row in rows}
    lines = []
    for name, time in by_name.items():
        base, _, kind = name.rpartition("/")
        if kind != "time":
            continue
        memory = by_name[f"{base}/memory"]
        sides = [figure(time["ours"]), figure(time.get("reference")), times(time)]
        held = [figure(memory[side] / 1e6) if side in memory else "-" for side in ("ours", "reference")]
        lines.append([f"`{base}`", *sides, *held, times(memory)])
    head = ["row", "ours, s", "rival, s", "times faster", "ours, MB", "rival, MB", "times smaller"]
    return table(head, lines)


def bytes_table(rows: Rows) -> str:
    """Return the bytes that one of two ranks receives, beside two ways to gather."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in (row for row in rows if row["benchmark"].startswith("loss/bytes/")):
        _, _, name, beside, _ = row["benchmark"].split("/")
        found.setdefault(name, {})[beside] = row
    lines = []
    for name, sides in found.items():
        others = [
            f"{sides[f'beside-{rival}']['reference']:,} ({sides[f'beside-{rival}']['ratio']:.3g} ×)"
            for rival in ("everything", "pooled")
        ]
        lines.append([f"`{name}`", f"{sides['beside-pooled']['ours']:,}", *others])
    return table(["bytes at N = 512", "ours", "gathering everything", "gathering both sides pooled"], lines)


def packing(rows: Rows) -> str:
    """Return the rows of packing, and what they make of whole sets."""
    rate = next(row for row in rows if row["benchmark"] == "pack/total")
    a_core = rate["ours"] / rate["threads"]
    lines = [
        [name, f"{clips / a_core / 3600:.2g}", f"{clips / a_core / 60 / 256:.0f} min"]
        for name, clips in PACKED.items()
    ]
    sets = table(["", "≈ core-hours", "≈ on 16 machines of 16 cores, `slurm/pack.sbatch` as an array"], lines)
    return f"{plain_table(rows)}\n\n{sets}"


def growth_table(rows: Rows) -> str:
    """Return time and memory of what grows with a data set and a training, and how busy the machine was."""
    lines = []
    for row in rows:
        figures = [figure(row[name]) for name in ("ours", "processor_seconds", "peak_mb", "above_mb")]
        lines.append([f"`{row['benchmark']}`", *figures])
    sizes = f"{rows[0]['clips']:,} clips, {rows[0]['steps']:,} steps"
    heads = [sizes, "seconds", "of a processor", "peak MB", "of these above its start"]
    loads = [row["load"] for row in rows]
    busy = f"Meanwhile {min(loads):g} to {max(loads):g} processes wanted a core of the machine."
    return f"{table(heads, lines)}\n\n{busy}"


def tagger_table(rows: Rows) -> str:
    """Return how often taggers are right, by the rate at which sounds are stored, and their speed."""
    lines = []
    for row in rows:
        _, name, *what = row["benchmark"].split("/")
        if what == ["speed"]:
            continue
        share = f"{row['ours']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"
        lines.append([name, *what, str(row["clips"]), share, f"{row['probability']:.3f}"])
    heads = ["tagger", "clips of", "stored at", "N", "right among five, %", "probability of the right class"]
    speeds = {row["benchmark"].split("/")[1]: row["ours"] for row in rows if row["unit"] == "ms"}
    took = ", ".join(f"{name} {milliseconds:.0f} ms" for name, milliseconds in speeds.items())
    return f"{table(heads, lines)}\n\nTen seconds of sound take of one core: {took}."
