"""Say how good a label table is, or what differs between several."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import torch
from PIL import Image

from cacl.errors import UserError
from cacl.files import write_json
from cacl.labels.members import Members, choose_members, class_names
from cacl.labels.report import build_report, count_labels
from cacl.labels.table import LabelTable
from cacl.viewing.label_report import Clip, Part, Sample, write_label_report
from cacl.viewing.pictures import jpeg_url, ogg_url
from launch.jobs.tables import table_path, true_classes
from shards.store import Store, open_store

_SECONDS = 3.0
"""Of a clip's sound that the page plays, from its middle."""
_PIXELS = 200
"""Of the longer side of a frame on the page."""


@dataclass(frozen=True)
class LabelReport:
    """The report of label tables."""

    page: Path
    """report.html; report.json lies next to it."""
    record: dict[str, Any]
    """What report.json holds (see `cacl.labels.report.build_report`)."""


def report_labels(
    tables: Sequence[str | Path], data: str, out: str | Path | None = None, *, batch_size: int = 128
) -> LabelReport:
    """Write report.json and report.html of tables of the shards at `data` into the folder `out`.

    The default is DIR/labels. The page shows some clips of some labels. Raises UserError for tables of other
    shards.
    """
    if batch_size < 2:
        raise UserError(f"--batch-size {batch_size}: pairs need 2 clips or more")
    store = open_store(data)
    paths = short_names([Path(path) for path in tables])
    loaded = {name: LabelTable.load(path, store.fingerprint) for name, path in paths.items()}
    truth = {name: true_classes(store, table.index) for name, table in loaded.items()}
    record = build_report(loaded, truth, batch_size)
    folder = Path(out) if out else table_path(data, None, "report").parent
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", record)
    counted = count_labels(loaded, truth)
    parts = {
        name: Part(
            table.confidence,
            *counted[name],
            class_names(table.header),
            [sample(store, some) for some in choose_members(table, truth[name])],
        )
        for name, table in loaded.items()
    }
    write_label_report(folder / "report.html", record, parts)
    return LabelReport(folder / "report.html", record)


def sample(store: Store, some: Members) -> Sample:
    """Return the clips of a label that are shown, less those that are broken, and what is said of it."""
    note = f"{some.clips} clip{'s' if some.clips > 1 else ''}, confidence {some.confidence:.2f}"
    clips = [clip for index in some.shown if (clip := read_clip(store, index))]
    return Sample(some.name, f"{note}; mostly {some.true}" if some.true else note, clips)


def read_clip(store: Store, index: int) -> Clip | None:
    """Return a clip for a browser: its frame, small and of its own shape, and the middle of its sound.

    None where it cannot be decoded: training counts it as broken.
    """
    members = store.read(index)
    try:
        frame = Image.open(io.BytesIO(members["jpg"])).convert("RGB")
        samples, rate = soundfile.read(io.BytesIO(members["wav"]), dtype="float32")
    except (KeyError, OSError, ValueError, soundfile.LibsndfileError):
        return None
    frame.thumbnail((_PIXELS, _PIXELS))
    begin = max(0, (len(samples) - round(_SECONDS * rate)) // 2)
    sound = torch.from_numpy(samples[begin : begin + round(_SECONDS * rate)])
    return Clip(store.annotation(index).id, jpeg_url(frame), ogg_url(sound, rate))


def short_names(paths: list[Path]) -> dict[str, Path]:
    """Return files by their bare names if these tell them apart, else by their paths."""
    stems = {path.stem: path for path in paths}
    return stems if len(stems) == len(paths) else {str(path): path for path in paths}
