"""The protocols by name."""

from __future__ import annotations

from cacl.errors import UserError
from cacl.evaluation.protocols.base import Columns, Protocol
from cacl.evaluation.protocols.boxes import Boxes
from cacl.evaluation.protocols.slavc import SlavcCompat
from cacl.evaluation.protocols.stamps import OtherSound, Stamps

__all__ = ["CONTROLS", "PROTOCOLS", "Columns", "Protocol", "get_protocol"]

_PROTOCOLS = (
    Stamps("stamps", version=2),
    Stamps("extended-stamps", version=1),
    Boxes("vggss", version=1, official_clips=5158),
    Boxes("vggss-heard", version=1, official_clips=2564),
    Boxes("vggss-unheard", version=1, official_clips=2575),
    Boxes("extended-vggss", version=1, official_clips=10316),
    Boxes("flickr", version=1, official_clips=250, consensus=True),
    Boxes("extended-flickr", version=1, official_clips=500, consensus=True),
    SlavcCompat("slavc-compat", version=1),
    SlavcCompat("slavc-compat-flickr", version=1, consensus=True),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _PROTOCOLS}

CONTROLS: dict[str, dict[str, Protocol]] = {
    "stamps": {"other_sound": OtherSound("stamps/other_sound", version=1)},
}
"""Further measurements that belong to a protocol, of the same frames with another sound."""


def get_protocol(name: str) -> Protocol:
    """Return a protocol by name. Raises UserError that lists the names."""
    if name not in PROTOCOLS:
        raise UserError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
