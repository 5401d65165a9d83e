"""Show what a run makes of clips without boxes: frames, maps and sounds to look at and to listen to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

import cacl
from cacl.annotation import Annotation
from cacl.evaluation.systems import maps_of
from cacl.runs.directory import Run
from cacl.runs.load import find_checkpoint, measured_weights
from cacl.viewing.clips_page import ClipsPage, write_clips_page
from cacl.viewing.finder import SoundFinder
from cacl.viewing.gallery import Example, View
from launch.jobs.curves import losses
from launch.jobs.measuring import AnnotatedClips, data_options
from shards.store import Store, open_store

_SEEN = 128
"""Clips that are looked at, of which the surest, the least sure and others are shown."""
_BATCH = 16


@dataclass(frozen=True)
class _Seen:
    """A clip, and what the model makes of it."""

    clip_id: str
    class_name: str
    frame: Tensor
    waveform: Tensor
    scores: Tensor
    """[224, 224], with its own sound."""
    other: tuple[Tensor, Tensor] | None
    """The sound of a clip of another film, if there is one, and the map of this frame with it."""

    @property
    def peak(self) -> float:
        """The highest cosine with the own sound."""
        return float(self.scores.max())


def show_clips(
    run: str | Path,
    data: str,
    out: str | Path | None = None,
    *,
    weights: Literal["model", "ema"] | None = None,
    clips: int = 24,
) -> Path:
    """Write a page of `clips` packed clips of `data`, by default clips.html in the run; return its path.

    Clips need no boxes, and those that have some are shown without. Raises UserError where the run has no
    checkpoint, or there are no packed clips.
    """
    directory, finder, options = Run(run), cacl.load(run, weights), data_options(run)
    store = open_store(data)
    packed = AnnotatedClips(store, options.decoder, options.workers, options.augmentation)
    seen = look(finder, packed)
    surest = max((clip.peak for clip in seen), default=1.0)
    nothing, _, best = finder.scale
    scale = (nothing, best if finder.theta is not None else max(surest, 1e-6))
    path = Path(out or directory.folder / "clips.html")
    page = ClipsPage(
        directory.folder.name,
        data,
        len(store.indices),
        len(seen),
        {heading: [example(clip, finder, scale) for clip in some] for heading, some in chosen(seen, clips)},
        scale,
        finder.theta,
        options.augmentation.sample_rate,
        losses(directory),
        notes(directory, store),
        facts(directory, store, weights),
    )
    write_clips_page(path, page)
    return path


def look(finder: SoundFinder, packed: AnnotatedClips) -> list[_Seen]:
    """Return some clips, drawn at random, with the maps of their own and of another clip's sound."""
    drawn = np.random.default_rng(0).permutation(packed.store.indices)[:_SEEN]
    maps = maps_of(finder.model)
    found = []
    for batch in packed.batches(drawn, _BATCH):
        frames, notes = batch.images.cpu(), batch.annotations or []
        rows = [row for row in range(len(notes)) if batch.valid[row]]
        partner = {row: other_film(notes, rows, row) for row in rows}
        heard = batch.waveforms[[partner.get(row, row) for row in range(len(notes))]]
        own, others = maps(frames, batch.waveforms), maps(frames, heard)
        for row in rows:
            beside = (heard[row], finder.pixels(others[row])) if partner[row] != row else None
            note, waveform = notes[row], batch.waveforms[row]
            found.append(
                _Seen(note.id, note.class_name, frames[row], waveform, finder.pixels(own[row]), beside)
            )
    return found


def other_film(notes: Sequence[Annotation], rows: Sequence[int], row: int) -> int:
    """Return the next of `rows` that is of another film than `row`; itself where there is none."""
    place = rows.index(row)
    turned = [*rows[place + 1 :], *rows[:place]]
    films = {other: notes[other].film or notes[other].id for other in rows}
    return next((other for other in turned if films[other] != films[row]), row)


def chosen(seen: list[_Seen], count: int) -> list[tuple[str, list[_Seen]]]:
    """Return half of `count` clips as they were drawn, and of the others the surest and the least sure."""
    part = max(1, min(count, len(seen)) // 4)
    ranked = sorted(seen, key=lambda clip: -clip.peak)
    surest, rest = ranked[:part], ranked[part:]
    least, middle = rest[::-1][:part], rest[: max(0, len(rest) - part)]
    others = [clip for clip in seen if clip in middle][: max(0, count - 2 * part)]
    headed = [("Drawn at random", others), ("Where the model is surest", surest)]
    headed.append(("Where it is least sure", least))
    return [(heading, some) for heading, some in headed if some]


def example(clip: _Seen, finder: SoundFinder, scale: tuple[float, float]) -> Example:
    """Return a clip as the gallery shows it, with one sound or two."""
    views = [View(f"own sound{silent(clip.scores, finder)}", clip.scores, clip.waveform, (), scale)]
    if clip.other is not None:
        waveform, scores = clip.other
        views.append(View(f"another sound{silent(scores, finder)}", scores, waveform, (), scale))
    return Example(clip.clip_id, clip.class_name, clip.frame, views)


def silent(scores: Tensor, finder: SoundFinder) -> str:
    """Return what is said of a map that is nowhere above θ."""
    return ": nothing sounds" if finder.theta is not None and float(scores.max()) <= finder.theta else ""


def notes(run: Run, store: Store) -> list[str]:
    """Return whether the model has learned from these clips, and what its validation says."""
    found = []
    step = find_checkpoint(run, "latest")
    identity = trained(step) if step else {}
    if identity.get("data") == store.fingerprint:
        found.append(
            "The model was trained on these clips: it may know them by heart. Clips of other films say more."
        )
    measured: Mapping[str, float] = next(run.newest_first("validation"), {}).get("validation", {})
    if "recall_at_1" in measured:
        share, clips = 100 * measured["recall_at_1"], measured.get("clips", 0)
        found.append(
            f"{share:.1f} % of {clips:.0f} validation frames find their own sound among all of them."
        )
    return found


def trained(step: Path) -> dict[str, Any]:
    """Return the fingerprints of the data that a checkpoint was trained on."""
    from cacl.runs.checkpoint import read_state

    return read_state(step).get("identity") or {}


def facts(run: Run, store: Store, weights: Literal["model", "ema"] | None) -> dict[str, str]:
    """Return what else a reader must know to see the same again."""
    step = find_checkpoint(run, "latest")
    return {
        "checkpoint": f"{step.name if step else '-'}, {weights or measured_weights(run)} weights",
        "clips (fingerprint)": store.fingerprint,
    }
