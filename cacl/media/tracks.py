"""Which tracks of a film are seen and heard, and the frames in their packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.container import InputContainer

_NO_FILM = ("attached_pic", "timed_thumbnails", "still_image")
"""What marks a track of pictures that is no film: covers and previews."""


def picture_track(film: InputContainer) -> Any | None:
    """Return the track of pictures that a player shows: the default one, else the first; None without one."""
    return _default([one for one in film.streams.video if not any(_has(one, name) for name in _NO_FILM)])


def sound_track(film: InputContainer) -> Any | None:
    """Return the track that a player plays: the default one, else the first; None without one."""
    return _default(list(film.streams.audio))


def _default(streams: list[Any]) -> Any | None:
    # Phones write a second track in a codec that nobody else decodes.
    readable = [one for one in streams if one.codec_context is not None] or streams
    return next((one for one in readable if _has(one, "default")), readable[0] if readable else None)


def _has(stream: Any, name: str) -> bool:
    from av.stream import Disposition

    return Disposition[name] in Disposition(stream.disposition)


def frames_in(packet: Any) -> list[Any]:
    """Return the frames that a packet completes; the last packet of a track, which is empty, gives the rest.

    Theora repeats a picture by a packet without a byte. A decoder would take it for the end.
    """
    if not packet.size and (packet.dts is not None or packet.pts is not None):
        return []
    frames: list[Any] = packet.decode()
    return frames
