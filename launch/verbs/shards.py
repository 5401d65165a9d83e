"""Show, verify, draw or audit packed shards.

    cacl shards info data/vggsound
    cacl shards verify data/vggsound
    cacl shards sheet data/vggsound --out sheet.png
    cacl shards audit data/vggsound --against vggss_test.csv flickr_test.csv --clean clean.txt
    cacl shards audit vggss_144k.txt --against vggss.json --clean clean.txt
    cacl shards audit data/mine --against data/mine

An audit finds training clips that are in test sets: by their names, and where both are packed by frames and
sounds too. Against itself it finds what is in a set twice.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacl.errors import UserError
from launch.as_json import as_json
from launch.verbs.arguments import add_json_argument, add_verb, check_packed, count_cores, positive, share
from shards.cut import SHARE

if TYPE_CHECKING:
    from launch.jobs.audit import Audit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    info = add_verb(verbs, "info", "say what is there", "cacl shards info data/vggsound")
    info.add_argument("location", help="folder or address of the shards")
    verify = add_verb(
        verbs, "verify", "check every checksum and every sample", "cacl shards verify data/vggsound"
    )
    verify.add_argument("location", help="folder or address of the shards")
    verify.add_argument(
        "--workers", type=positive, default=count_cores(), help="processes (default: %(default)s)"
    )
    for verb in (info, verify):
        add_json_argument(verb)
    sheet = add_verb(
        verbs,
        "sheet",
        "draw frames with their boxes and masks",
        "cacl shards sheet data/vggsound --out sheet.png",
    )
    sheet.add_argument("location", help="folder or address of the shards")
    sheet.add_argument("--out", type=Path, required=True, help="the picture, such as sheet.png")
    sheet.add_argument("--clips", type=positive, default=40, help="how many (default: %(default)s)")
    audit = add_verb(
        verbs,
        "audit",
        "find training clips that are in test sets",
        "cacl shards audit data/vggsound --against vggss.json --clean clean.txt",
    )
    add_audit_arguments(audit)


def add_audit_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of an audit."""
    add_json_argument(parser)
    parser.add_argument("training", type=Path, help="folder of shards, or a list of ids")
    parser.add_argument(
        "--against",
        type=Path,
        nargs="+",
        default=[],
        help="test lists, vggss.json, folders of shards, or the training set itself",
    )
    parser.add_argument(
        "--by", choices=["names", "content"], help="compare only these (default: all that the sets allow)"
    )
    parser.add_argument("--clean", type=Path, help="write the ids that share nothing, for cacl pack --list")
    parser.add_argument("--exclude", type=Path, help="write the ids that share something")
    parser.add_argument("--pairs", type=Path, help="write a CSV of all pairs, with what each shares")
    parser.add_argument("--validation", type=Path, help="write a validation split of the clean ids")
    parser.add_argument(
        "--share", type=share, default=SHARE, help="of the videos, for --validation (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=positive, default=count_cores(), help="processes (default: %(default)s)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run a sub-verb."""
    if arguments.verb != "audit":
        check_packed(arguments.location)
    {"info": show_info, "verify": verify, "sheet": draw, "audit": audit}[arguments.verb](arguments)
    return 0


def show_info(arguments: argparse.Namespace) -> None:
    """Print what is there."""
    from launch.jobs.shards import summarize_shards

    summary = summarize_shards(arguments.location)
    manifest, clips = summary.manifest, summary.clips
    if arguments.json:
        shown = ("source", "fingerprint", "parameters", "environment", "shard_size")
        head = {"location": arguments.location, **{name: getattr(manifest, name) for name in shown}}
        counts = {
            "clips": clips,
            "ids": manifest.clips,
            "shards": len(manifest.shards),
            "bytes": summary.size,
        }
        print(as_json({**head, **counts, "rejected": dict(summary.rejections)}))
        return
    print(f"{arguments.location}: {manifest.source}")
    print(f"  fingerprint  {manifest.fingerprint}")
    print(f"  clips        {clips} of {manifest.clips} ids, {manifest.clips - clips} rejected")
    print(
        f"  shards       {len(manifest.shards)} of up to {manifest.shard_size} clips, "
        f"{summary.size / 1e6:.1f} MB"
    )
    print(f"  parameters   {json.dumps(manifest.parameters)}")
    print(f"  packed with  {', '.join(map(' '.join, manifest.environment.items()))}")
    for reason, count in summary.rejections:
        print(f"  rejected     {count} × {reason}")


def verify(arguments: argparse.Namespace) -> None:
    """Print what is wrong, a line each."""
    from launch.jobs.shards import summarize_shards, verify_shards

    problems = verify_shards(arguments.location, arguments.workers)
    if arguments.json:
        clips = summarize_shards(arguments.location).clips
        print(as_json({"location": arguments.location, "clips": clips, "faults": problems}))
    for problem in [] if arguments.json else problems:
        print(problem)
    if problems:
        raise UserError(f"{arguments.location}: {len(problems)} faults, named above")
    if not arguments.json:
        print(f"{arguments.location}: all {summarize_shards(arguments.location).clips} clips are sound")


def draw(arguments: argparse.Namespace) -> None:
    """Write the sheet and say what it shows."""
    from launch.jobs.shards import draw_shards

    shown = draw_shards(arguments.location, arguments.out, arguments.clips)
    print(f"{arguments.out}: {shown} clips; orange is heard, blue is visible and silent")


def audit(arguments: argparse.Namespace) -> None:
    """Print what is shared, and where lists were written."""
    from launch.jobs.audit import audit, sentences

    found = audit(
        arguments.training,
        arguments.against,
        by=arguments.by,
        share=arguments.share,
        clean_file=arguments.clean,
        validation_file=arguments.validation,
        exclude_file=arguments.exclude,
        pairs_file=arguments.pairs,
        workers=arguments.workers,
    )
    if arguments.json:
        print(as_json(_audited(found)))
        return
    print(f"{arguments.training}: {found.training} clips")
    for finding in found.findings:
        for sentence in sentences(finding):
            print(f"  {finding.tested}: {sentence}")
    print(f"  clean: {len(found.clean)} clips")
    if arguments.validation:
        print(f"  wrote {arguments.validation}: {len(found.validation)} validation clips")
    if arguments.clean:
        print(f"  wrote {arguments.clean}: {len(found.train)} clean training clips")
    if arguments.exclude:
        print(f"  wrote {arguments.exclude}: {len(found.excluded)} clips to leave out")
    if arguments.pairs:
        print(f"  wrote {arguments.pairs}: every pair")


def _audited(found: Audit) -> dict[str, Any]:
    """Return what an audit has found as plain values: numbers, the ids, and each test set's sentences."""
    from launch.jobs.audit import sentences

    tested = [
        {"tested": one.tested, "clips": one.clips, "itself": one.within, "sentences": list(sentences(one))}
        for one in found.findings
    ]
    ids = {name: getattr(found, name) for name in ("clean", "validation", "train", "excluded")}
    return {"training": found.training, "findings": tested, **ids}
