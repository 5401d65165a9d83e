"""What can be packed: one line a source."""

from __future__ import annotations

import importlib

from shards.sources.base import Source

SOURCES = {
    "avatar": (
        "shards.sources.avatar",
        "Avatar",
        "AVATAR: frames of films, polygons of what sounds, and whether that is on screen",
    ),
    "avsbench": (
        "shards.sources.avsbench",
        "AvsBench",
        "AVSBench S4 and MS3: frames of films and masks of what sounds in them",
    ),
    "extended-generated": (
        "shards.sources.extended",
        "ExtendedGenerated",
        "the test clips of `generated`, and as many in which nothing in view sounds",
    ),
    "extended-stamps": (
        "shards.sources.extended",
        "ExtendedStamps",
        "the test clips of `stamps`, and as many in which nothing in view sounds",
    ),
    "flickr": ("shards.sources.flickr", "Flickr", "Flickr-SoundNet: frames, audio and XML boxes"),
    "frames": ("shards.sources.frames", "Frames", "folders of numbered frames, each with a sound"),
    "generated": ("shards.sources.generated", "Generated", "drawn shapes and synthesized sounds"),
    "is3": (
        "shards.sources.interactive",
        "Is3",
        "IS3: generated pictures, a clip for each of their two sounds",
    ),
    "music-duet": (
        "shards.sources.duets",
        "MusicDuet",
        "MUSIC-Duet: frames of films in which two play, and the boxes of both",
    ),
    "parquet": (
        "shards.sources.parquet",
        "Parquet",
        "Parquet files with films, or pictures and sounds, in them, as hubs publish them",
    ),
    "photographs": (
        "shards.scenes.photographs",
        "Photographs",
        "photographs of COCO, each with a recording of a class that it shows",
    ),
    "prepared": ("shards.sources.prepared", "Prepared", "your own frames/<id>.jpg and audio/<id>.wav"),
    "scenes": (
        "shards.scenes.source",
        "Scenes",
        "cut-out pictures and recordings, pasted and mixed",
    ),
    "stamps": ("shards.sources.stamps", "Stamps", "photographs on photographs with real recordings"),
    "vpo": (
        "shards.sources.interactive",
        "Vpo",
        "VPO-SS and VPO-MS: COCO's pictures with sounds of VGGSound, a clip for each object",
    ),
    "vggsound": ("shards.sources.vggsound", "VggSound", "VGGSound's raw clips and vggsound.csv"),
    "vggsound-duet": (
        "shards.sources.duets",
        "VggSoundDuet",
        "VGGSound-Duet: two clips of VGG-SS side by side, their sounds added",
    ),
    "vggss": ("shards.sources.vggss", "VggSs", "VGG-SS: annotated test clips and vggss.json"),
    "videos": ("shards.sources.videos", "Videos", "any folder of videos, and perhaps a CSV"),
    "webdataset": (
        "shards.sources.webdataset",
        "WebDataset",
        "WebDataset shards of others: tars of films, or of pictures and sounds",
    ),
}
"""Name of `cacl pack NAME` → its module, its class and its help text. By name: a module loads when chosen."""


def source_class(name: str) -> type[Source]:
    """Return the class of a source by its name in `SOURCES`."""
    module, kind, _ = SOURCES[name]
    found: type[Source] = getattr(importlib.import_module(module), kind)
    return found
