"""Names of clips of YouTube videos: VGG-Sound's own, and those under which others hand its files on.

A video's id has 11 letters, digits, `-` and `_`; it may begin and end with any of them, so it is cut off by
its length and by nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NamedTuple

_NAME = re.compile(r"([\w-]{11})_(\d{1,9})(?:\.(\d{1,6}))?(?:_(\d{1,9})(?:\.\d{1,6})?)?", re.ASCII)
_LAST = 999_999
"""Seconds; a start has six digits."""
_CLIP = 10
"""Seconds of a clip of VGG-Sound or AudioSet, as names of both ends say it."""


class Span(NamedTuple):
    """A part of a film."""

    film: str
    begin: float | None = None
    """Seconds into the film; None where only the film is known."""
    end: float | None = None

    def overlaps(self, other: Span) -> bool:
        """Return whether both are known to show one moment of one film."""
        if self.begin is None or self.end is None or other.begin is None or other.end is None:
            return False
        return self.film == other.film and self.begin < other.end and other.begin < self.end


def clip_names(name: str) -> list[str]:
    """Return what a file's name may mean as `<id>_<start, six digits>`, the likelier first.

    Read are `<id>_<start>` with any number of digits and `<id>_<start>_<end>`, both in seconds or in
    milliseconds. Empty for a name of another form.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return []
    film, start, fraction, end = found.groups()
    first, last = int(start), int(end) if end else None
    if last is not None and last <= first:
        return []
    seconds = [] if int(fraction or 0) else [first]
    thousandths = [] if fraction or first % 1000 else [first // 1000]
    # Both ends in seconds lie less than 1,000 apart: that would be a quarter of an hour.
    likelier = thousandths + seconds if last is not None and last - first >= 1000 else seconds + thousandths
    return [f"{film}_{start:06d}" for start in dict.fromkeys(likelier) if start <= _LAST]


def find_clip(name: str, known: Container[str]) -> str | None:
    """Return the clip among the `known` that a file of this name holds, None where it holds none of them."""
    return next((clip for clip in (name, *clip_names(name)) if clip in known), None)


def youtube_video(id: str) -> str | None:
    """Return the YouTube id in `<11 characters>_<start, six digits>`, None where `id` is not of that form.

    Of `<id>_<start>_<end>` too, where ten seconds lie between them. Folders before it count for nothing.
    """
    name = id.rpartition("/")[2]
    film, _, start = name.rpartition("_")
    if len(film) == 11 and len(start) == 6 and start.isdecimal():
        return film
    found = _NAME.fullmatch(name)
    if found is None or found[4] is None:
        return None
    # Not any two numbers: films of one's own may be called so.
    return found[1] if int(found[4]) - int(found[2]) in (_CLIP, 1000 * _CLIP) else None


def youtube_spans(name: str) -> list[Span]:
    """Return which ten seconds, or others, of which video a name may mean: none, one or two readings.

    Read are the forms of `clip_names`. Six digits that begin with 0 are seconds. Whether the name is of a
    video of YouTube at all says `youtube_video`.
    """
    found = _NAME.fullmatch(name.rpartition("/")[2])
    if found is None:
        return []
    film, digits, fraction, last = found.groups()
    begin = float(f"{digits}.{fraction or 0}")
    if last is not None:
        unit = 1000 if float(last) - begin >= 1000 else 1
        return [Span(film, begin / unit, float(last) / unit)] if float(last) > begin else []
    official = len(digits) == 6 and digits.startswith("0")
    thousandths = [] if official or begin % 1000 else [begin / 1000]
    return [Span(film, one, one + _CLIP) for one in (begin, *thousandths)]
