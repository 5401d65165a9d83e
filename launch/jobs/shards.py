"""What is in packed shards, whether it is whole, and which training clips stand in test lists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cacl.annotation import Annotation
from cacl.errors import UserError
from cacl.files import written
from shards.audit import Leak, find_leak, read_ids
from shards.cut import SHARE, Cut
from shards.decoders.clip import annotation
from shards.manifest import Manifest
from shards.pack import REJECTED
from shards.pictures import FRAMES, open_picture
from shards.sources.lists import write_ids
from shards.store import Store, open_store
from shards.verify import verify
from shards.youtube import youtube_video


@dataclass(frozen=True)
class ShardsSummary:
    """What lies in a folder or at an address of shards."""

    manifest: Manifest
    clips: int
    size: int
    """Bytes of all shards."""
    rejections: list[tuple[str, int]]
    """Reasons for which clips were rejected, and how many; the most frequent first."""


def summarize_shards(location: str | Path) -> ShardsSummary:
    """Return what is in packed shards. Raises UserError if there are none."""
    store = open_store(location)
    size = sum(shard.filesize for shard in store.manifest.shards)
    reasons: Counter[str] = Counter()
    rejected = Path(location) / REJECTED
    if rejected.exists():
        lines = map(json.loads, rejected.read_text(encoding="utf-8").splitlines())
        reasons.update(line["reason"].partition(":")[0] for line in lines)
    return ShardsSummary(store.manifest, sum(map(len, store.shards)), size, reasons.most_common())


def verify_shards(location: str | Path, workers: int = 1) -> list[str]:
    """Return what is wrong with packed shards, a sentence each, after reading every byte and sample."""
    return list(verify(location, workers))


def draw_shards(location: str | Path, out: Path, clips: int = 40) -> int:
    """Write frames and what is known of them on one sheet; return how many there are, evenly taken.

    Raises UserError where `out` is no picture's name.
    """
    from cacl.viewing.sheet import draw_sheet

    store = open_store(location)
    places = np.linspace(0, len(store.indices) - 1, min(clips, len(store.indices))).round().astype(int)
    sheet = draw_sheet(_frame_and_note(store, int(store.indices[place])) for place in places)
    try:
        with written(out, suffix=out.suffix) as partial:
            sheet.save(partial)
    except ValueError:
        raise UserError(f"{out}: is no name of a picture; name one such as sheet.png") from None
    return len(places)


def _frame_and_note(store: Store, index: int) -> tuple[Image.Image, Annotation]:
    members = store.read(index)
    return open_picture(members["jpg"], FRAMES).convert("RGB"), annotation(members)


@dataclass(frozen=True)
class Audit:
    """What a training set shares with test lists, and what is left of it."""

    training: int
    """Clips of the training set."""
    leaks: list[tuple[Path, int, Leak]]
    """A test list, how many clips it has, and what it shares."""
    clean: list[str]
    """Ids that stand in no test list, sorted."""
    validation: list[str]
    """Those of them that are chosen for validation."""
    train: list[str]
    """The others, sorted."""


def audit(
    training: Path,
    against: Sequence[Path] = (),
    *,
    share: float = SHARE,
    clean_file: Path | None = None,
    validation_file: Path | None = None,
) -> Audit:
    """Find the training clips that stand in test lists, and choose validation clips among the others.

    A set is a folder of shards, a list of ids or vggss.json. If `validation_file` is given, `share` (0..1) of
    the clean videos goes there: those that packing the clean ids with that share would keep for validation.
    The other clean ids go to `clean_file`.
    """
    if not 0 < share < 1:
        raise UserError(f"--share: {share} does not lie between 0 and 1")
    ids = read_ids(training)
    leaks = []
    for path in against:
        tested = read_ids(path)
        leaks.append((path, len(tested), find_leak(ids, tested)))
    leaked = {id for _, _, leak in leaks for id in (*leak.same_clip, *leak.same_video)}
    clean, cut = sorted(ids - leaked), Cut("validation", share)
    validation = [id for id in clean if cut.keeps(youtube_video(id) or id)] if validation_file else []
    train = sorted(set(clean) - set(validation))
    for file, lines in ((validation_file, validation), (clean_file, train)):
        if file:
            write_ids(file, lines)
    return Audit(len(ids), leaks, clean, validation, train)
