"""What `cacl.load` returns: a sound finder that writes films too.

A module of its own, since what writes a film takes a finder.
"""

from __future__ import annotations

from pathlib import Path

from cacl.errors import UserError
from cacl.viewing.finder import SoundFinder


class LoadedFinder(SoundFinder):
    """A trained model, ready for pictures, sounds and films of any size and length. See `cacl.load`."""

    def localize(
        self,
        film: str | Path,
        out: str | Path | None = None,
        *,
        sound: str | Path | None = None,
        maps: str | Path | None = None,
        start: float = 0.0,
        seconds: float | None = None,
        every: float = 0.2,
        side_by_side: bool = False,
        strip: bool = True,
        overwrite: bool = False,
    ) -> Path:
        """Write a film with a map over every frame and its sound, and return where it is.

            finder.localize("film.mp4")                       # film-sound.mp4, beside it
            finder.localize("film.mp4", "other.webm", sound="bell.wav", start=10, seconds=5)

        `sound` takes the place of the film's own. `maps` (.npz) receives `time` [F] in seconds and the raw
        `maps` [F, h, w]. The part from `start` of so many `seconds` is written, with a map of the model
        `every` so many seconds; `side_by_side` shows the film as it was too, `strip` sound and scale below.
        `cacl localize` does the same, and more. Raises UserError for a file that is not a film with picture
        and sound, and for an output that is there already, unless `overwrite`, or has another ending than a
        film's.
        """
        from cacl.viewing.film import Part  # what reads films is not needed before
        from cacl.viewing.film_writer import check_ending, name_beside
        from cacl.viewing.localize import Look, localize_film

        source = Path(film)
        target = Path(out or source.with_name(name_beside(source)))
        check_ending(target)
        for written in (target, *([Path(maps)] if maps is not None else [])):
            if written.resolve() == source.resolve():
                raise UserError(f"{written}: is the film that is read; name another")
            if written.exists() and not overwrite:
                raise UserError(f"{written}: is there already; name another, or give overwrite=True")
        look = Look(Part(start, seconds), every, side_by_side, strip)
        localize_film(self, source, target, maps, dub=sound, look=look)
        return target
