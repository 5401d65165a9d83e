"""What of the demo is done already."""

from __future__ import annotations

import json
from pathlib import Path

from cacl.evaluation.protocols import get_protocol
from cacl.runs import checkpoint
from shards.store import open_store


def is_evaluated(run: Path, test: str) -> bool:
    """Say whether a run's newest checkpoint has been evaluated on these clips by today's protocol."""
    newest, summary = checkpoint.latest_valid(run / "checkpoints"), run / "metrics.json"
    if newest is None or not summary.exists():
        return False
    record = json.loads(summary.read_text())
    protocol = get_protocol(record["protocol"])
    wanted = {
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "checkpoint": newest.name,
        "data": open_store(test).fingerprint,
    }
    return all(record.get(key) == value for key, value in wanted.items())
