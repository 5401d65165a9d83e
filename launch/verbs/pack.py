"""Write the clips of a source into WebDataset shards with a manifest.

    cacl pack stamps --out data/stamps/train
    cacl pack videos --root films --out data/mine --validation data/mine-validation
    cacl pack videos --root films --every 3 --seconds 3 --out data/windows
    cacl pack merge --out DIR      # after parts (--part 3/16) were packed on several machines

What was begun goes on, and what is packed already is checked.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from launch.verbs.arguments import add_verb, count_cores, positive, share
from launch.verbs.source_options import add_fields, build_source
from shards.clip import Storage
from shards.cut import SHARE
from shards.sources import SOURCES, source_class

if TYPE_CHECKING:
    from shards.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a sub-verb for each source, with the source's fields as its options, and `merge`."""
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, (_, _, help_text) in SOURCES.items():
        kind = source_class(name)
        one = sources.add_parser(name, help=help_text, description=kind.__doc__)
        add_fields(one, kind)
        add_fields(one, Storage, {field.name: field.default for field in fields(kind)}["storage"])
        one.add_argument("--out", type=Path, required=True, help="folder of the shards")
        one.add_argument(
            "--workers", type=positive, default=count_cores(), help="processes (default: %(default)s)"
        )
        one.add_argument(
            "--shard-size",
            type=positive,
            default=kind.shard_size,
            help="clips a shard (default: %(default)s)",
        )
        one.add_argument(
            "--part",
            type=_parse_part,
            default=(1, 1),
            metavar="K/N",
            help="pack the K-th of N parts only, then merge",
        )
        _add_max_rejected(one, 0.05, "%(default)s")
        _add_validation(one)
    merge = add_verb(
        sources, "merge", "finish a folder whose parts are all packed", "cacl pack merge --out data/vggsound"
    )
    merge.add_argument("--out", type=Path, required=True, help="folder of the shards")
    _add_max_rejected(merge, None, "that of the parts")


def main(arguments: argparse.Namespace) -> int:
    """Pack or merge, and say what is there."""
    from launch.jobs.pack import merge, pack, pack_both

    out, limit = arguments.out, arguments.max_rejected
    if arguments.source == "merge":
        show(out, merge(out, max_rejected=limit))
        return 0
    how = {name: getattr(arguments, name) for name in ("workers", "shard_size", "part", "max_rejected")}
    source, validation = build_source(source_class(arguments.source), arguments), arguments.validation
    if validation is None:
        packed = {out: pack(source, out, **how)}
    else:
        cut = {"share": arguments.validation_share, "seed": arguments.validation_seed}
        packed = pack_both(source, out, validation, **cut, **how)
    turn, parts = arguments.part
    for folder, manifest in packed.items():
        if manifest is not None:
            show(folder, manifest)
        else:
            print(f"part {turn} of {parts} is packed; after the last one: cacl pack merge --out {folder}")
    for remark in source.remarks():
        print(remark)
    return 0


def show(out: Path, manifest: Manifest) -> None:
    """Print how much a folder of shards holds."""
    stored = sum(shard.nsamples for shard in manifest.shards)
    size = sum(shard.filesize for shard in manifest.shards) / 1e6
    left = manifest.clips - stored
    rejected = f", {left} rejected (see {out / 'rejected.jsonl'})" if left else ""
    print(f"{out}: {stored} clips in {len(manifest.shards)} shards, {size:.1f} MB{rejected}")
    print(f"fingerprint {manifest.fingerprint}")


def _add_max_rejected(parser: argparse.ArgumentParser, default: float | None, shown: str) -> None:
    help_text = f"share of rejected clips, 0..1, over which the run ends with an error (default: {shown})"
    parser.add_argument("--max-rejected", type=share, default=default, help=help_text)


def _add_validation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--validation",
        type=Path,
        metavar="DIR",
        help="cut a validation split out of the clips and pack it here; films are not divided",
    )
    parser.add_argument(
        "--validation-share",
        type=share,
        default=SHARE,
        metavar="SHARE",
        help="about how much of the clips, 0..1, goes there (default: %(default)s)",
    )
    parser.add_argument(
        "--validation-seed", type=int, default=0, metavar="SEED", help="for another cut (default: 0)"
    )


def _parse_part(text: str) -> tuple[int, int]:
    turn, slash, parts = text.partition("/")
    if not (slash and turn.isdecimal() and parts.isdecimal() and 1 <= int(turn) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with 1 <= K <= N, such as 3/16")
    return int(turn), int(parts)
