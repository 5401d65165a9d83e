"""An evaluation's numbers as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launch.table import with_interval

_COLUMN = 15
"""Characters of a column."""


def table(record: Mapping[str, Any]) -> str:
    """Return an evaluation's numbers as lines of text, what they are measured by and on first."""
    from cacl.evaluation.protocols import CONTROLS

    trained = record["checkpoint"].startswith("step-")
    titles = {"model": "trained" if trained else "model", "guided": "with objects"}
    titles |= {"tags": "tags", "objects": "objects alone"}
    titles |= {"untrained": "untrained", "centered_box": "centered box", "ceiling": "ceiling"}
    shown = [key for key in titles if key in record]
    beyond = out_of_reach(record)
    width = max(map(len, record["model"])) + 2
    lines = [heading(record), main_number(record)]
    lines.append(" " * width + "".join(f"{titles[key]:>{_COLUMN}}" for key in shown))
    for name in record["model"]:
        if name in beyond:
            continue
        lines.append(f"{name:<{width}}" + "".join(_cell(record[key].get(name)) for key in shown))
    for key in CONTROLS.get(record["protocol"], {}):
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in record[key].items())
        lines.append(f"{key.replace('_', ' ')}: {numbers}")
    if beyond:
        lines.append(f"left out, for no map can reach them on these clips: {', '.join(beyond)}")
    if "negatives" in record:
        lines += negative_lines(record["negatives"])
    return "\n".join([*lines, record["signature"]])


def retrieval_table(record: Mapping[str, Any]) -> str:
    """Return the numbers of retrieval as lines of text, with their intervals."""
    numbers, width = record["model"], max(map(len, record["model"])) + 2
    lines = [
        f"retrieval version {record['protocol_version']}, similarity {record['similarity']}, "
        f"{record['checkpoint']}, {record['weights']} weights: {record['n']} clips{absent(record['missing'])}"
    ]
    for name, value in numbers.items():
        ends = record["intervals"].get(name)
        lines.append(
            f"{name:<{width}}{_cell(value)}" + ("" if ends is None else "  [{:.3f}, {:.3f}]".format(*ends))
        )
    return "\n".join(lines)


def main_number(record: Mapping[str, Any]) -> str:
    """Return the protocol's main number, its interval, and what it says."""
    from cacl.evaluation.sentences import sentence

    main = record["main"]
    return f"{main['name']} {with_interval(main['value'], main['interval'])}: {sentence(main['name'])}"


def out_of_reach(record: Mapping[str, Any]) -> list[str]:
    """Return the numbers whose ceiling is 0: they say something of the clips, and nothing of a model."""
    return [name for name, best in record["ceiling"].items() if best == 0]


def negative_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the numbers under negative sound as lines: what they are measured at first."""
    kinds = ", ".join(found["kinds"])
    first = f"negative sound: {kinds}, {found['repetitions']} each, seed {found['seed']}; {found['rule']}"
    numbers = found["numbers"]
    width = max(map(len, numbers)) + 2
    ends = {name: "  [{:.3f}, {:.3f}]".format(*one) for name, one in found["intervals"].items()}
    return [first, *(f"{name:<{width}}{_cell(value)}{ends.get(name, '')}" for name, value in numbers.items())]


def heading(record: Mapping[str, Any]) -> str:
    """Return protocol, its version and options, N, the share of the set and the missing clips as one line."""
    options = "".join(f", {name} {value}" for name, value in record["options"].items())
    return (
        f"{record['protocol']} version {record['protocol_version']}{options}: {record['n']} clips, "
        f"{100 * record['share_of_set']:.1f} % of the set{absent(record['missing'])}"
    )


def absent(missing: Sequence[int | str], most: int = 5) -> str:
    """Return how many clips are missing and which, by id or index, as the end of a line; "" if none is."""
    if not missing:
        return ""
    named = ", ".join(map(str, missing[:most])) + (" …" if len(missing) > most else "")
    kind = "" if isinstance(missing[0], str) else "index " if len(missing) == 1 else "indices "
    return f"; {len(missing)} missing ({kind}{named})"


def _cell(value: float | None) -> str:
    return f"{'-':>{_COLUMN}}" if value is None else f"{value:>{_COLUMN}.3f}"
