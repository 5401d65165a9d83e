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
        self, film: str | Path, out: str | Path | None = None, *, maps: str | Path | None = None
    ) -> Path:
        """Write a film with a map over every frame and its own sound, and return where it is.

            finder.localize("film.mp4")                       # film-sound.mp4, beside it

        `maps` (.npz) receives `time` [F] in seconds and the raw `maps` [F, h, w]. `cacl localize` is the same
        from the command line. Raises UserError for a file that is not a film with picture and sound.
        """
        from cacl.viewing.localize import localize_film  # what reads films is not needed before

        source = Path(film)
        target = Path(out or source.with_name(f"{source.stem}-sound.mp4"))
        if target.resolve() == source.resolve():
            raise UserError(f"out: {target} is the film that is read; name another")
        localize_film(self, source, target, maps)
        return target
