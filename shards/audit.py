"""Which clips of a training set are in a test set too: by their names, and by what they show and play."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from shards.alike import PAIRS, Alike, alike_frames, alike_sounds, sounding
from shards.named import Named
from shards.prints import Prints
from shards.youtube import Span

Kind = Literal["clip", "moment", "film", "frame", "sound"]
"""Both are one clip by their names; overlap in time; are parts of one film; show, or play, the same."""


@dataclass
class Shared:
    """Pairs of clips, one of the training set and one of a test set, that have one thing in common.

    Within one set, the later and the earlier clip.
    """

    pairs: list[tuple[str, str]] = field(default_factory=list)
    """Ids, of one pair after the other; not all, where there are very many."""
    training: set[str] = field(default_factory=set)
    """Ids of all training clips that are in any pair."""
    tested: set[str] = field(default_factory=set)
    """Ids of all test clips that are."""
    count: int = 0
    """How many pairs there are."""

    def add(self, training: str, tested: str) -> None:
        """Take a pair."""
        self.training.add(training)
        self.tested.add(tested)
        self.count += 1
        if self.count <= PAIRS:
            self.pairs.append((training, tested))


Leak = dict[Kind, Shared]
"""What is shared, by kind; kinds that were not looked for are left out."""


def leaked(leak: Leak) -> set[str]:
    """Return the training clips that share anything."""
    return set[str]().union(*(shared.training for shared in leak.values()))


def compare_names(training: Sequence[Named], tested: Sequence[Named] | None = None) -> Leak:
    """Compare clips by name, film and time; a pair is of the first kind of `Kind` that fits.

    Without `tested` each training clip is compared with those before it, and two parts of one film are
    nothing: only what is there twice counts, in whole or in part.
    """
    leak: Leak = {"clip": Shared(), "moment": Shared()}
    if tested is not None:
        leak["film"] = Shared()
    known = _Known(films={span.film for clip in (*training, *(tested or ())) for span in clip.spans})
    for clip in tested or ():
        known.add(clip)
    for clip in training:
        for id, kind in known.kinds(clip).items():
            if kind in leak:
                leak[kind].add(clip.id, id)
        if tested is None:
            known.add(clip)
    return leak


@dataclass
class _Known:
    """Clips by what may be asked for."""

    films: set[str]
    """Those that are films for sure."""
    by_name: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    by_film: dict[str, list[tuple[Span, str]]] = field(default_factory=lambda: defaultdict(list))

    def spans(self, clip: Named) -> list[Span]:
        return [*clip.spans, *(span for span in clip.likely if span.film in self.films)]

    def add(self, clip: Named) -> None:
        for name in clip.names:
            self.by_name[name].append(clip.id)
        for span in self.spans(clip):
            self.by_film[span.film].append((span, clip.id))

    def kinds(self, clip: Named) -> dict[str, Kind]:
        """Return what each clip that has anything to do with this one shares with it."""
        found: dict[str, Kind] = {}
        for name in clip.names:
            found |= dict.fromkeys(self.by_name.get(name, ()), "clip")
        for span in self.spans(clip):
            for other, id in self.by_film.get(span.film, ()):
                kind: Kind = "film"
                if span.begin is not None and span == other:
                    kind = "clip"
                elif span.overlaps(other):
                    kind = "moment"
                found[id] = min(kind, found.get(id, kind), key=("clip", "moment", "film").index)
        return found


@dataclass(frozen=True)
class Compared:
    """What comparing by prints has found, and how sure it is."""

    frames: Alike
    sounds: Alike
    without_frame: int
    """Clips of both sets whose frame has no print."""
    without_sound: int


def compare_prints(training: Prints, tested: Prints | None = None, workers: int = 0) -> Compared:
    """Compare frames and sounds; without `tested` each training clip with those before it."""
    both = (training,) if tested is None else (training, tested)
    return Compared(
        alike_frames(training.frames, None if tested is None else tested.frames, workers),
        alike_sounds(training.sounds, None if tested is None else tested.sounds, workers),
        sum(int((~prints.frames.any(1)).sum()) for prints in both),
        sum(len(prints.sounds) - len(sounding(prints.sounds)) for prints in both),
    )


def name_pairs(alike: Alike, training: Sequence[Named], tested: Sequence[Named]) -> Shared:
    """Return pairs of prints by the ids of their clips."""
    return Shared(
        [(training[i].id, tested[j].id) for i, j in alike.pairs[:PAIRS].tolist()],
        _chosen(training, alike.left),
        _chosen(tested, alike.right),
        alike.count,
    )


def _chosen(clips: Sequence[Named], chosen: Iterable[bool]) -> set[str]:
    return {clip.id for clip, one in zip(clips, chosen, strict=True) if one}
