"""Reads what TensorBoard would show."""

from __future__ import annotations

from pathlib import Path


def numbers_in(folder: Path) -> dict[tuple[str, int], float]:
    """Return every number of the one event file in `folder`, by its name and step."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.glob("events*")
    found: dict[tuple[str, int], float] = {}
    body = file.read_bytes()
    while body:  # a record: its length, a checksum of it, an event, a checksum
        length = int.from_bytes(body[:8], "little")
        event = Event.FromString(body[12 : 12 + length])
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        body = body[12 + length + 4 :]
    return found
