"""Which clips of a training set are in test sets too, and what is left of it without them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cacl.errors import UserError, shorten
from cacl.files import write_text
from shards.alike import Alike
from shards.audit import Compared, Kind, Leak, compare_names, compare_prints, leaked, name_pairs
from shards.cut import SHARE, Cut
from shards.named import Named, read_clips
from shards.prints import prints_of
from shards.sources.lists import write_ids
from shards.store import open_store
from shards.youtube import youtube_video

By = Literal["names", "content"]


@dataclass(frozen=True)
class Finding:
    """What a training set shares with a test set."""

    tested: Path
    clips: int
    """Of the test set."""
    within: bool
    """Whether it is the training set itself, of which each clip was compared with those before it."""
    leak: Leak
    compared: Compared | None
    """None where frames and sounds were not compared."""


@dataclass(frozen=True)
class Audit:
    """What a training set shares with test sets, and what is left of it."""

    training: int
    """Clips of the training set."""
    findings: list[Finding]
    clean: list[str]
    """Ids that share nothing, sorted."""
    validation: list[str]
    """Those of them that are chosen for validation."""
    train: list[str]
    """The others, sorted."""
    excluded: list[str]
    """Ids that share something, sorted."""


def audit(
    training: Path,
    against: Sequence[Path] = (),
    *,
    by: By | None = None,
    share: float = SHARE,
    clean_file: Path | None = None,
    validation_file: Path | None = None,
    exclude_file: Path | None = None,
    pairs_file: Path | None = None,
    workers: int = 1,
) -> Audit:
    """Find the training clips that are in test sets, and choose validation clips among the others.

    A set is a folder of shards, a list of ids or vggss.json; one that is the training set itself is searched
    for what is in it twice. Compared are names, and frames and sounds where both sets are packed, or what
    `by` says. If `validation_file` is given, `share` (0..1) of the clean videos goes there: those that
    packing the clean ids with that share would keep for validation. The other clean ids go to `clean_file`,
    those that share something to `exclude_file`, each pair to `pairs_file`.
    """
    if not 0 < share < 1:
        raise UserError(f"--share: {share} does not lie between 0 and 1")
    for path in (training, *against):
        if by == "content" and not path.is_dir():
            raise UserError(f"--by content: {path} is a list; give a folder of packed shards, or --by names")
    clips = read_clips(training)
    findings = [_compare(training, clips, path, by, workers) for path in against]
    excluded = set[str]().union(*(leaked(finding.leak) for finding in findings))
    clean, cut = sorted({clip.id for clip in clips} - excluded), Cut("validation", share)
    validation = [id for id in clean if cut.keeps(youtube_video(id) or id)] if validation_file else []
    train = sorted(set(clean) - set(validation))
    for file, lines in ((validation_file, validation), (clean_file, train), (exclude_file, sorted(excluded))):
        if file:
            write_ids(file, lines)
    if pairs_file:
        _write_pairs(pairs_file, findings)
    return Audit(len(clips), findings, clean, validation, train, sorted(excluded))


def _compare(training: Path, clips: list[Named], path: Path, by: By | None, workers: int) -> Finding:
    within = path.resolve() == training.resolve()
    tested = clips if within else read_clips(path)
    leak: Leak = {} if by == "content" else compare_names(clips, None if within else tested)
    compared = None
    if by == "content" or (by is None and training.is_dir() and path.is_dir()):
        prints = prints_of(open_store(training), workers)
        others = None if within else prints_of(open_store(path), workers)
        compared = compare_prints(prints, others, workers)
        leak["frame"] = name_pairs(compared.frames, clips, tested)
        leak["sound"] = name_pairs(compared.sounds, clips, tested)
    return Finding(path, len(tested), within, leak, compared)


def _write_pairs(path: Path, findings: Sequence[Finding]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["set", "same", "training", "tested"])
    for finding in findings:
        for kind, shared in finding.leak.items():
            writer.writerows((finding.tested, kind, *pair) for pair in shared.pairs)
    write_text(path, text.getvalue())


SAID: dict[Kind, tuple[str, str]] = {
    "clip": ("", "are in it twice by their names"),
    "moment": ("overlap in time with its clips", "overlap in time with others of it"),
    "film": ("are other parts of its videos", ""),
    "frame": ("show a frame of its clips", "show a frame of others of it"),
    "sound": ("play a sound of its clips", "play a sound of others of it"),
}
"""By kind, what training clips do with a test set, and within one set."""


def sentences(finding: Finding, named: int = 2) -> list[str]:
    """Say what a set shares with the training set, with up to `named` pairs of each kind."""
    said = []
    for kind, shared in finding.leak.items():
        if kind == "clip" and not finding.within:
            said.append(f"{len(shared.tested)} of its {finding.clips} clips stand in the training set")
            shown = [pair for pair in shared.pairs if pair[0] != pair[1]]
            said[-1] += _such_as(shown[:named])
        elif shared.count:
            clips = "clips" if finding.within else "training clips"
            said.append(f"{len(shared.training)} {clips} {SAID[kind][finding.within]}")
            said[-1] += _such_as(shared.pairs[:named])
    if finding.within and not any(shared.count for shared in finding.leak.values()):
        said.append("nothing is in it twice")
    if finding.compared is not None:
        said.append(_how_sure(finding.compared))
    return said


def _such_as(pairs: Sequence[tuple[str, str]]) -> str:
    named = ", ".join(f"{shorten(one)} = {shorten(other)}" for one, other in pairs)
    return f", such as {named}" if pairs else ""


def _how_sure(compared: Compared) -> str:
    rates = [_missed(*each) for each in (("frames", compared.frames), ("sounds", compared.sounds))]
    return (
        f"compared {' and '.join(rates)}; {compared.without_frame} frames of one color and "
        f"{compared.without_sound} silent or very short sounds are like none"
    )


def _missed(what: str, alike: Alike) -> str:
    """Say how many pairs were compared and how many were near the limit; of a million, about how many."""
    said = f"{alike.compared:,} pairs of {what} ({alike.beside:,} just missed being alike"
    if alike.compared < 1_000_000:
        return f"{said})"
    return f"{said}: in a million at most about {alike.false_per_million:.2g} are so by chance)"
