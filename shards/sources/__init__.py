"""What can be packed: one line a source."""

from __future__ import annotations

import importlib

from shards.sources.base import Source

SOURCES = {
    "stamps": ("shards.sources.stamps", "Stamps", "photographs on photographs with real recordings"),
    "generated": ("shards.sources.generated", "Generated", "drawn shapes and synthesized sounds"),
    "extended-stamps": (
        "shards.sources.extended",
        "ExtendedStamps",
        "half of them non-sounding",
    ),
    "extended-generated": ("shards.sources.extended", "ExtendedGenerated", "the same of generated clips"),
    "vggsound": ("shards.sources.vggsound", "VggSound", "VGGSound's raw clips and vggsound.csv"),
    "vggss": ("shards.sources.vggss", "VggSs", "VGG-SS: annotated test clips and vggss.json"),
    "flickr": ("shards.sources.flickr", "Flickr", "Flickr-SoundNet: frames, audio and XML boxes"),
    "videos": ("shards.sources.videos", "Videos", "any folder of videos, and perhaps a CSV"),
    "prepared": ("shards.sources.prepared", "Prepared", "your own frames/<id>.jpg and audio/<id>.wav"),
}


def source_class(name: str) -> type[Source]:
    """Return the class of a source by its name in `SOURCES`."""
    module, kind, _ = SOURCES[name]
    found: type[Source] = getattr(importlib.import_module(module), kind)
    return found
