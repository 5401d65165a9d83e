"""Show where the sound is in a film, or in a picture with a sound, of one's own, or that nothing sounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cacl.errors import UserError
from cacl.files import written
from launch.jobs.localize_errands import Errand, Part, Wanted, plan_errands
from shards.progress import progress

if TYPE_CHECKING:
    from cacl.viewing.finder import SoundFinder
    from cacl.viewing.follow import Shown
    from cacl.viewing.localize import Look
    from cacl.viewing.tracks import Tracker

WHOLE, NOTHING_ELSE = Part(), Wanted()
FAR = 0.5
"""Share of the way from θ to as sure as the model gets, below which highest values are low."""
_PERCENTILE = 95
"""Of highest values, as the model's scale was fitted by."""


@dataclass(frozen=True)
class Overlay:
    """What was written of one film or picture."""

    path: Path
    written: tuple[Path, ...] = ()
    """The other files."""
    frames: int | None = None
    """Of a film."""
    maps: int = 1
    """That the model made."""
    theta: float | None = None
    """Above it something sounds; None where no θ was fitted, and so no area is claimed."""
    sounding: int = 0
    """Maps that have something above θ: of a picture's one, or of a film's."""
    highest: float = 0.0
    """The 95th percentile of the maps' highest values."""
    fitted_otherwise: tuple[str, ...] = ()
    """Upsamplings of θs that do not serve, since maps are drawn by another one."""
    best: float | None = None
    """What `highest` was on clips that the model knows; None where it was not measured."""

    @property
    def far(self) -> bool:
        """Whether the model is much less sure here than on clips that it knows."""
        if self.theta is None or self.best is None:
            return False
        return self.highest < self.theta + FAR * (self.best - self.theta)


@dataclass(frozen=True)
class Overlays:
    """What was written of all that was asked for."""

    done: list[Overlay]
    refused: dict[Path, str]
    """Files of a folder that could not be localized, and why."""
    trained_on: str = ""
    """The data that the model has learned from; "" where that is not known."""


def localize(
    file: str | Path,
    *,
    run: str | Path | None = None,
    model: str | None = None,
    audio: str | Path | None = None,
    out: str | Path | None = None,
    wanted: Wanted = NOTHING_ELSE,
    part: Part = WHOLE,
    every: float | None = None,
    side_by_side: bool = False,
    strip: bool = True,
    pan: float | None = None,
    overwrite: bool = False,
    weights: Literal["model", "ema"] | None = None,
) -> Overlays:
    """Write the overlays of a film, of a picture and its sound, or of a folder of them; say what was found.

    `run` is a run directory or an exported file, `model` the name of a model that needs none (default:
    `tags`). `audio` takes the place of a film's sound. `out` is next to the file by default, for a folder a
    folder next to it. `every` is in seconds, `pan` the share of the film's side that a crop may move in one.
    Of a folder what cannot be localized is told in the result. Raises UserError, before a model is loaded, if
    a file cannot be read or an output not be written or is there, unless `overwrite`.
    """
    errands, refused = plan_errands(file, audio=audio, out=out, wanted=wanted, part=part, overwrite=overwrite)
    import cacl
    from cacl.viewing.follow import EVERY
    from cacl.viewing.localize import Look

    finder = cacl.load(run if run is not None else model or "tags", weights)
    look = Look(part, every or EVERY, side_by_side, strip)
    done = []
    for errand in errands:
        try:
            done.append(_localize(finder, errand, look, wanted, pan))
        except UserError as error:
            if not Path(file).is_dir():
                raise
            refused[errand.source] = str(error)
    return Overlays(done, refused, _with_clips(finder.trained_on) if finder.trained_on else "")


def _with_clips(named: str) -> str:
    """Return the name of training data, with how many clips there are where it is a folder of them here."""
    from shards import manifest

    try:
        data = manifest.load(Path(named))
    except (OSError, UserError):
        return named
    return f"{named} ({data.clips:,} clips of {data.source!r})"


def _localize(finder: SoundFinder, errand: Errand, look: Look, wanted: Wanted, pan: float | None) -> Overlay:
    """Make all files of one errand."""
    peaks: list[float] = []
    sounding: list[bool] = []
    tracker = _tracker(finder, errand) if errand.follows else None

    def each(shown: Shown) -> None:
        import torch

        pixels = finder.pixels(torch.from_numpy(shown.raw))
        peaks.append(float(pixels.max()))
        sounds = None if finder.theta is None else peaks[-1] > finder.theta
        sounding.append(bool(sounds))
        if tracker:
            tracker.add(shown.time, shown.raw, (shown.picture.shape[0], shown.picture.shape[1]), sounds)

    make = _picture if errand.still else _film
    frames = make(finder, errand, look, each)
    if tracker:
        _write_data(errand, tracker)
        if wanted.reframe:
            _reframe(errand, look, tracker, wanted.reframe, pan)
    others = () if finder.theta is not None else tuple(one.upsampling for one in finder.calibrations)
    best = next((one.best for one in finder.calibrations if one.theta == finder.theta), None)
    return Overlay(
        errand.out,
        tuple(errand.more.values()),
        frames,
        len(peaks),
        finder.theta,
        sum(sounding),
        float(np.percentile(peaks, _PERCENTILE)),
        others,
        best,
    )


def _tracker(finder: SoundFinder, errand: Errand) -> Tracker:
    from cacl.viewing.film import Facts, facts
    from cacl.viewing.heat import Scale
    from cacl.viewing.tracks import Tracker

    told = Facts(0.0, 1.0, 1, None, 0) if errand.still else facts(errand.source)
    return Tracker(errand.source, told, Scale(*finder.scale))


def _film(finder: SoundFinder, errand: Errand, look: Look, each: Callable[[Shown], None]) -> int:
    """Write one film's overlay and return its number of frames."""
    from cacl.viewing.film import facts
    from cacl.viewing.localize import localize_film

    total = facts(errand.source).frames_of(look.part)
    maps = errand.more.get("maps")
    with progress(total=total, unit="frame", desc=errand.source.name) as bar:
        return localize_film(
            finder, errand.source, errand.out, maps, each, dub=errand.dub, look=look, drawn=bar.update
        )


def _picture(finder: SoundFinder, errand: Errand, look: Look, each: Callable[[Shown], None]) -> None:
    """Write one picture's overlay. Raises UserError for a picture or a sound that cannot be read."""
    from PIL import Image

    from cacl.viewing.follow import Shown
    from cacl.viewing.inputs import picture_of
    from cacl.viewing.localize import MapFile, localize_picture, read_recording

    assert errand.dub is not None
    frame = picture_of(errand.source)
    overlay, raw = localize_picture(finder, frame, read_recording(finder, errand.dub))
    each(Shown(0.0, frame, raw, True))
    if look.side_by_side:
        overlay = Image.fromarray(np.concatenate([frame, np.asarray(overlay)], axis=1))
    with written(errand.out, suffix=errand.out.suffix) as partial:
        overlay.save(partial)
    if "maps" in errand.more:
        with MapFile() as file:
            file.add(0.0, raw)
            file.save(errand.more["maps"])


def _write_data(errand: Errand, tracker: Tracker) -> None:
    """Write the track and its exports."""
    from cacl.viewing.annotations import FORMS, export
    from cacl.viewing.tracks import write_track

    track = tracker.track()
    if "tracks" in errand.more:
        write_track(errand.more["tracks"], track)
    for name in FORMS:
        if name in errand.more:
            export(name, errand.more[name], track)


def _reframe(errand: Errand, look: Look, tracker: Tracker, shape: tuple[int, int], pan: float | None) -> None:
    """Write the film once more, cut to another shape around what sounds."""
    from cacl.viewing.film import facts
    from cacl.viewing.follow import soundtrack
    from cacl.viewing.reframe import SPEED, crop_of, plan, targets_of, write_reframed

    track = tracker.track()
    size = track.height, track.width
    crop = crop_of(size, shape)
    targets = targets_of(track.moments, crop.across)
    begins = plan(targets, crop.share(size), pan or SPEED)
    sound = soundtrack(errand.source, look.part, errand.dub)
    out, total = errand.more["reframe"], facts(errand.source).frames_of(look.part)
    with progress(total=total, unit="frame", desc=out.name) as bar:
        times = [one.time for one in targets]
        write_reframed(errand.source, out, sound, look.part, times, begins, crop, bar.update)
