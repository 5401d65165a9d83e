"""Say what scenes can be made of, or make films of them.

    cacl scenes classes --objects cut-outs --sounds recordings
    cacl scenes classes --objects coco:train2017,instances_train2017.json --sounds esc50:ESC-50-master
    cacl scenes classes --objects debian --sounds debian --json
    cacl scenes films --objects debian --sounds debian --out films --films 20

Pictures and recordings meet where both sides have a class of one name. In a film objects move, and the one
that is heard changes; beside the films lies what `cacl pack videos` wants to know of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from launch.verbs.arguments import add_verb, count_cores, positive
from launch.verbs.source_options import add_fields, read_fields
from shards.scenes.source import Scenes

if TYPE_CHECKING:
    from launch.jobs.scenes import Amount, ClassTable


_NO_FILMS = ("clips", "sounding", "off_screen", "clip_per_object", "clutter", "pasting")
"""Options of scenes that a film has none of."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    classes = add_verb(
        verbs,
        "classes",
        "count pictures and recordings of each class",
        "cacl scenes classes --objects stamps --sounds stamps",
    )
    for option, forms, required in (
        ("--objects", "DIR/<class>/*.png, coco:IMAGES,FILE, stamps, debian, varied", True),
        ("--sounds", "DIR/<class>/*, esc50:DIR, vggsound:SHARDS, stamps, debian, varied", True),
        ("--backgrounds", "DIR, coco:IMAGES,FILE, wallpapers, debian, varied", False),
    ):
        classes.add_argument(option, nargs="+", action="extend", default=[], required=required, help=forms)
    classes.add_argument("--json", action="store_true", help="print the table as JSON")
    films = add_verb(
        verbs,
        "films",
        "make films in which objects move",
        "cacl scenes films --objects stamps --sounds stamps --out films",
    )
    add_fields(films, Scenes, without=_NO_FILMS)
    films.add_argument("--out", type=Path, required=True, help="folder of the films")
    films.add_argument("--films", type=positive, default=10, help="how many (default: %(default)s)")
    films.add_argument(
        "--film-seconds", type=float, default=12.0, help="length of a film (default: %(default)s)"
    )
    films.add_argument(
        "--workers", type=positive, default=count_cores(), help="processes (default: %(default)s)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run a sub-verb."""
    {"classes": show_classes, "films": write_films}[arguments.verb](arguments)
    return 0


def show_classes(arguments: argparse.Namespace) -> None:
    """Print the table of classes."""
    from launch.jobs.scenes import count_classes

    named = (tuple(getattr(arguments, name)) for name in ("objects", "sounds", "backgrounds"))
    table = count_classes(*named)
    print(_as_json(table) if arguments.json else "\n".join(_lines(table)))


def write_films(arguments: argparse.Namespace) -> None:
    """Make the films and print how they are packed."""
    from launch.jobs.scenes import make_films

    scenes = Scenes(**read_fields(Scenes, arguments))
    out = arguments.out
    how = {"films": arguments.films, "seconds": arguments.film_seconds, "workers": arguments.workers}
    clips = make_films(scenes, out, **how)
    print(f"{out}: {arguments.films} films, {clips} clips; to pack them:")
    tables = f"--csv {out}/clips.csv --boxes {out}/boxes.json"
    print(f"  cacl pack videos --root {out} {tables} --seconds 3 --out DIR")


def _lines(table: ClassTable) -> list[str]:
    """Return the table as text, and what it comes to."""
    from launch.table import align

    head = ("class", "pictures", "of", "train/val/test", "recordings", "of", "train/val/test", "")
    rows = [
        (one.class_name, *_cells(one.pictures), *_cells(one.recordings), _remark(one.missing, one.class_name))
        for one in table.classes
    ]
    both = [one for one in table.classes if not one.missing]
    full = [one for one in both if min(one.pictures.origins, one.recordings.origins) >= 3]
    lines = [
        *align(head, rows),
        "",
        "`of`: so many photographs or recordings that they were cut from; *: for want of others, one of them",
        "is in more than one part of the split.",
        f"{len(both)} classes have pictures and recordings, {len(full)} of them three originals of each",
    ]
    if table.backgrounds.instances:
        count, origins, parts = _cells(table.backgrounds)
        lines.append(f"{count} backgrounds of {origins} photographs: {parts}")
    return lines


def _cells(amount: Amount) -> tuple[str, str, str]:
    parts = "/".join(map(str, amount.sides.values())) if amount.instances else "-"
    return str(amount.instances), str(amount.origins), parts + ("*" if amount.seen else "")


def _remark(missing: str, class_name: str) -> str:
    if class_name.startswith("_"):
        return "heard only"
    return f"no {missing}" if missing else ""


def _as_json(table: ClassTable) -> str:
    classes = {
        one.class_name: {
            "pictures": vars(one.pictures),
            "recordings": vars(one.recordings),
            "missing": one.missing,
        }
        for one in table.classes
    }
    return json.dumps({"classes": classes, "backgrounds": vars(table.backgrounds)}, indent=2)
