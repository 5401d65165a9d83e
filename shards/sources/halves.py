"""A clip that lies in pieces: which endings are films, pictures and sounds, and bytes made a moment."""

from __future__ import annotations

from shards.clip import Storage
from shards.sources.folders import PICTURE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES
from shards.sources.media import Needs, decode_frame
from shards.sources.recordings import decode_audio
from shards.sources.video import Moment

FILM, PICTURE, SOUND = "film", "picture", "sound"


def kind_of(ending: str) -> str | None:
    """Return what a file with this ending (`.mp4`, in any case) is, None where it is none of the three."""
    ending = ending.lower()
    for kind, endings in ((FILM, VIDEO_SUFFIXES), (PICTURE, PICTURE_SUFFIXES), (SOUND, SOUND_SUFFIXES)):
        if ending in endings:
            return kind
    return None


def pair_moment(picture: bytes, sound: bytes, storage: Storage, needs: Needs) -> Moment:
    """Return a picture and a recording, given as their files' content. Raises BrokenMedia."""
    return Moment(decode_frame(picture, storage), decode_audio(sound, storage, needs))
