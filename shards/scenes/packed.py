"""Recordings out of packed shards: clips of VGGSound, or any clips that say what is heard."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cacl.errors import UserError
from cacl.files import cache_folder, write_text
from shards.clip import Array
from shards.progress import progress
from shards.scenes import reading
from shards.scenes.classes import class_of
from shards.scenes.collections import Instance
from shards.sources import media
from shards.store import Store, open_store
from shards.youtube import youtube_video

_VERSION = 1


@dataclass(frozen=True)
class PackedSounds:
    """The sounds of packed clips; what is of one YouTube video has one origin."""

    label: str
    store: Store
    instances: tuple[Instance, ...]
    """Sorted by name, which ends in the clip's index."""

    def read(self, instance: Instance, sample_rate: int) -> Array:
        """Return a recording, [t] float32. Raises BrokenMedia, naming the clip."""
        index = int(instance.name.rpartition("/")[2])
        with media.blame(self.store.where(index)):
            wav = self.store.read(index).get("wav")
            if wav is None:
                raise media.BrokenMedia("missing: the clip has no wav")
            return reading.read_recording(wav, sample_rate)

    def identity(self) -> dict[str, Any]:
        """Return the fingerprint of the shards."""
        return {"set": self.label, "fingerprint": self.store.fingerprint}


def packed_sounds(label: str, location: str, option: str) -> PackedSounds:
    """Return the sounds of the shards at `location` by our classes.

    Raises UserError where there are no shards, or no clip says what is heard.
    """
    store = open_store(location)
    instances = [
        Instance(class_of(heard, "vggsound"), f"{label}/{index:09d}", youtube_video(id) or id)
        for index, id, heard in _heard(store)
    ]
    if not instances:
        raise UserError(
            f"{option}: no clip of it names its class; pack it with its table: cacl pack vggsound --csv …"
        )
    return PackedSounds(label, store, tuple(instances))


def _heard(store: Store) -> list[tuple[int, str, str]]:
    """Return index, id and class of the clips that have one; listed once, in the cache folder."""
    path = cache_folder() / f"heard-{_VERSION}-{store.fingerprint[:32]}.json"
    if not path.exists():
        found = []
        for index in progress(store.indices.tolist(), desc="reading annotations", unit="clip"):
            note = store.annotation(index)
            # What is heard together cannot be told apart.
            if len(note.heard) == 1 and note.class_name:
                found.append((index, note.id, note.class_name))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(found))
    return [(index, id, heard) for index, id, heard in json.loads(path.read_text(encoding="utf-8"))]
