"""Show, verify or audit packed shards.

    cacl shards info data/vggsound
    cacl shards verify data/vggsound
    cacl shards audit data/vggsound --against vggss_test.csv flickr_test.csv --clean clean.txt
    cacl shards audit vggss_144k.txt --against vggss.json --classes vggsound.csv --validation validation.txt

An audit finds training clips that stand in test lists.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path

from cacl.errors import UserError
from launch.verbs.pack import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three sub-verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    info = verbs.add_parser("info", help="what is there", allow_abbrev=False)
    info.add_argument("location", help="folder or address of the shards")
    verify = verbs.add_parser("verify", help="check every checksum and every sample", allow_abbrev=False)
    verify.add_argument("location", help="folder or address of the shards")
    cores = len(os.sched_getaffinity(0))
    verify.add_argument("--workers", type=positive, default=cores, help="processes (default: %(default)s)")
    audit = verbs.add_parser("audit", help="find training clips that stand in test lists", allow_abbrev=False)
    audit.add_argument("training", type=Path, help="folder of shards, or a list of ids")
    audit.add_argument(
        "--against", type=Path, nargs="+", default=[], help="test lists, vggss.json, or folders of shards"
    )
    audit.add_argument("--clean", type=Path, help="write the ids that stand in none, for cacl pack --list")
    audit.add_argument("--validation", type=Path, help="write a validation split of the clean ids")
    audit.add_argument("--share", type=float, default=0.02, help="of each class (default: %(default)s)")
    audit.add_argument("--classes", type=Path, help="vggsound.csv, for the classes of a list of ids")


def main(arguments: argparse.Namespace) -> int:
    """Run a sub-verb."""
    {"info": _info, "verify": _verify, "audit": _audit}[arguments.verb](arguments)
    return 0


def _info(arguments: argparse.Namespace) -> None:
    from shards.store import open_store

    store = open_store(arguments.location)
    manifest, sizes = store.manifest, [len(shard) for shard in store.shards]
    size = sum(shard.filesize for shard in manifest.shards)
    print(f"{arguments.location}: {manifest.source}")
    print(f"  fingerprint  {manifest.fingerprint}")
    print(f"  clips        {sum(sizes)} of {manifest.ids} ids, {manifest.ids - sum(sizes)} rejected")
    print(f"  shards       {len(sizes)} of up to {manifest.shard_size} clips, {size / 1e6:.1f} MB")
    print(f"  parameters   {json.dumps(manifest.parameters)}")
    print(f"  packed with  {', '.join(map(' '.join, manifest.environment.items()))}")
    rejected = Path(arguments.location) / "rejected.jsonl"
    if rejected.exists():
        lines = map(json.loads, rejected.read_text(encoding="utf-8").splitlines())
        reasons = Counter(line["reason"].partition(":")[0] for line in lines)
        for reason, count in reasons.most_common():
            print(f"  rejected     {count} × {reason}")


def _verify(arguments: argparse.Namespace) -> None:
    from shards.store import open_store
    from shards.verify import verify

    problems = list(verify(arguments.location, arguments.workers))
    for problem in problems:
        print(problem)
    if problems:
        raise UserError(f"{arguments.location}: {len(problems)} faults, named above")
    print(f"{arguments.location}: all {len(open_store(arguments.location).indices)} clips are sound")


def _audit(arguments: argparse.Namespace) -> None:
    from shards.audit import find_leak, read_ids, validation_split
    from shards.sources.vggsound import read_table

    if not 0 < arguments.share < 1:
        raise UserError(f"--share: {arguments.share} does not lie between 0 and 1")
    training = read_ids(arguments.training)
    if arguments.classes:
        training |= {row.id: row.label for row in read_table(arguments.classes) if row.id in training}
    print(f"{arguments.training}: {len(training)} clips")
    leaked: set[str] = set()
    for path in arguments.against:
        tested = read_ids(path)
        leak = find_leak(training, tested)
        leaked.update(leak.same_clip)
        print(f"  {path}: {len(leak.same_clip)} of its {len(tested)} clips stand in the training set")
        if leak.same_video:
            print(f"  {path}: {len(leak.same_video)} training clips are other parts of its videos")
        leaked.update(leak.same_video)
    clean = {id: name for id, name in training.items() if id not in leaked}
    print(f"  clean: {len(clean)} clips")
    if arguments.validation:
        chosen = validation_split(clean, arguments.share)
        _write(arguments.validation, chosen, "validation clips")
        clean = {id: name for id, name in clean.items() if id not in set(chosen)}
    if arguments.clean:
        _write(arguments.clean, sorted(clean), "clean training clips")


def _write(path: Path, ids: list[str], what: str) -> None:
    path.write_text("".join(f"{id}\n" for id in ids), encoding="utf-8")
    print(f"  wrote {path}: {len(ids)} {what}")
