"""The protocols by name: one line each."""

from __future__ import annotations

from cacl.errors import UserError, meant
from cacl.evaluation.protocols.acl import acl_protocol
from cacl.evaluation.protocols.alignment import alignment_protocol
from cacl.evaluation.protocols.avsbench import Batches, avsbench_protocol
from cacl.evaluation.protocols.base import Annotation, Protocol, Truths
from cacl.evaluation.protocols.boxes import boxes_protocol
from cacl.evaluation.protocols.interactive import interactive_protocol
from cacl.evaluation.protocols.other_audio import other_sound_protocol
from cacl.evaluation.protocols.regions import region_protocol
from cacl.evaluation.protocols.slavc import slavc_protocol
from cacl.evaluation.protocols.stamps import stamps_protocol

__all__ = ["CONTROLS", "PROTOCOLS", "Annotation", "Protocol", "Truths", "get_protocol"]

_PROTOCOLS = (
    stamps_protocol("scenes", version=1),
    stamps_protocol("stamps", version=2),
    stamps_protocol("extended-stamps", version=1),
    boxes_protocol("boxes", version=2),
    boxes_protocol("vggss", version=2, official_clips=5158),
    boxes_protocol("vggss-heard", version=2, official_clips=2564),
    boxes_protocol("vggss-unheard", version=2, official_clips=2575),
    boxes_protocol("extended-vggss", version=2, official_clips=10316, main="ap"),
    boxes_protocol("flickr", version=2, official_clips=250, consensus=True),
    boxes_protocol("extended-flickr", version=2, official_clips=500, consensus=True, main="ap"),
    interactive_protocol("is3", version=1, official_clips=6480),
    interactive_protocol("vpo-ss", version=1, official_clips=890),
    interactive_protocol("vpo-ms", version=1, official_clips=2157),
    interactive_protocol("avsbench-s4-boxes", version=1, official_clips=3700),
    interactive_protocol("avsbench-ms3-boxes", version=1, official_clips=320),
    avsbench_protocol("avsbench", version=1),
    avsbench_protocol("avsbench-compat", version=1, batches=Batches(frames=5, maxima=True)),
    avsbench_protocol("avsbench-acl-compat", version=1, batches=Batches(frames=5, maxima=False)),
    slavc_protocol("slavc-compat", version=1),
    slavc_protocol("slavc-compat-flickr", version=1, consensus=True),
    alignment_protocol("alignment-compat", version=1),
    alignment_protocol("alignment-compat-flickr", version=1, consensus=True),
    acl_protocol("acl-compat", version=1),
    acl_protocol("acl-compat-flickr", version=1, consensus=True),
)

_WITH_REGIONS = ("boxes", "vggss", "vggss-heard", "vggss-unheard", "extended-vggss")

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _PROTOCOLS}
PROTOCOLS |= {f"{name}-region": region_protocol(PROTOCOLS[name]) for name in _WITH_REGIONS}

CONTROLS: dict[str, dict[str, Protocol]] = {
    "scenes": {"other_sound": other_sound_protocol("scenes-other-sound", version=1)},
    "stamps": {"other_sound": other_sound_protocol("stamps-other-sound", version=1)},
}
"""Further measurements that belong to a protocol, of the same frames with another sound."""


def get_protocol(name: str) -> Protocol:
    """Return a protocol by name. Raises UserError that lists the names."""
    if name not in PROTOCOLS:
        guess = meant(name, PROTOCOLS)
        raise UserError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}{guess}")
    return PROTOCOLS[name]
