"""Measure what any model says of the clips of a list: its maps, masks or boxes, from a file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cacl
from cacl.annotation import Annotation, SoundSource
from cacl.errors import UserError, brief
from cacl.evaluation import results
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.evaluator import normalized_boxes
from cacl.evaluation.measure import clip_results, stack_truths
from cacl.evaluation.predictions import Predictions, read_predictions
from cacl.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
from cacl.evaluation.signature import Signature
from cacl.evaluation.systems import centered_box, measure_maps
from cacl.evaluation.upsampling import Upsampling
from launch.jobs import Say
from shards.manifest import digest
from shards.sources.boxes import Entry, drawn_sources, read_boxes
from shards.sources.lists import find_form
from shards.sources.media import BrokenMedia

_PIECE = 256
"""Clips that are measured at once."""


def evaluate_predictions(
    predictions: str | Path,
    boxes: str | Path,
    out: str | Path,
    *,
    protocol: str = "vggss",
    upsampling: Upsampling | None = None,
    without_quirks: Collection[str] = (),
    ids: Sequence[str] | None = None,
    threshold: float = 0.5,
    say: Say = lambda sentence: None,
) -> dict[str, Any]:
    """Measure a file of predictions against a JSON of boxes, write the results to `out`, return the record.

    `boxes` has the form of vggss.json; `ids` restricts what is reported to a list. A clip of the boxes that
    has no prediction is missing, and counted so; a prediction without boxes is left out, and said. Regions
    (masks, boxes that score `threshold` or more) are measured by the protocol's form for regions. Raises
    UserError where files, ids and options do not fit.
    """
    found = read_predictions(Path(predictions), threshold)
    measured_by = rules_for(found, protocol).alter(upsampling, without_quirks)
    notes = read_annotations(Path(boxes), ids)
    rows = match(found, notes, say)
    if not rows:
        raise UserError(
            f"--predictions {predictions}: none of its {len(found.ids)} clips, such as {found.ids[0]}, has "
            f"boxes in {boxes}"
        )
    systems = measure_rows(found, notes, rows, measured_by)
    clips = [notes[place].id for place in rows]
    missing = [note.id for note in notes if note.id not in set(clips)]
    data = digest([[note.id, [[str(edge) for edge in box] for box in note.boxes or []]] for note in notes])
    options = {"threshold": f"{threshold:g}"} if found.kind == "regions" and threshold != 0.5 else {}
    subject = results.Subject(measured_by, data, Path(predictions).name, missing, options)
    record = results.summarize(subject, systems)
    record["signature"] = str(Signature.of(record, cacl.__version__))
    results.write(Path(out), record, systems)
    return record


def rules_for(found: Predictions, protocol: str) -> Protocol:
    """Return the protocol that fits a kind of predictions. Raises UserError where there is none."""
    rules = get_protocol(protocol)
    if rules.needs_masks or (found.kind == "maps" and protocol.endswith("-region")):
        kind = "masks of clips" if rules.needs_masks else "regions"
        raise UserError(f"--protocol {protocol}: measures {kind}; name one of boxes, such as vggss or boxes")
    if found.kind == "maps" or protocol.endswith("-region"):
        return rules
    if f"{protocol}-region" not in PROTOCOLS:
        known = ", ".join(name.removesuffix("-region") for name in PROTOCOLS if name.endswith("-region"))
        raise UserError(
            f"{found.where}: masks and boxes have no order of pixels, which {protocol} asks for; measure "
            f"them by one of {known}"
        )
    return get_protocol(f"{protocol}-region")


def read_annotations(boxes: Path, ids: Sequence[str] | None) -> list[Annotation]:
    """Return the clips of a JSON of boxes, those of a list or all, in their order by name.

    Raises UserError for a clip whose boxes are malformed, and for a list of which nothing is there.
    """
    entries = read_boxes(boxes)
    if ids is None:
        chosen = sorted(entries)
    else:
        chosen = [form for clip in ids if (form := find_form(clip, entries)) in entries]
        if not chosen:
            raise UserError(f"--ids: none of its {len(ids)} clips, such as {ids[0]}, has boxes in {boxes}")
    return [_annotation(boxes, name, entries[name]) for name in dict.fromkeys(chosen)]


def _annotation(boxes: Path, name: str, entry: Entry) -> Annotation:
    try:
        image = entry.get("image")
        if image is not None and not isinstance(image, str):
            raise BrokenMedia(f"image: {brief(image)} is no name")
        if "sources" in entry:
            return Annotation(name, sources=drawn_sources(entry), image=image)
    except BrokenMedia as error:
        raise UserError(f"{boxes}: {name}: {error}; mend its boxes or leave it out with --ids") from None
    # A box without a pixel counts as one that is always missed, as the field counts two clips of VGG-SS.
    found: Any = tuple(map(tuple, normalized_boxes(entry["bbox"], None, name)))
    source = SoundSource(str(entry.get("class", "")), boxes=found, visible=bool(found))
    return Annotation(name, sources=(source,), image=image)


def match(found: Predictions, notes: Sequence[Annotation], say: Say) -> dict[int, int]:
    """Return for each clip that has one the row of its prediction, and say which predictions have no clip."""
    places = {note.id: place for place, note in enumerate(notes)}
    rows, unknown = dict[int, int](), []
    for row, clip in enumerate(found.ids):
        form = find_form(clip, places)
        if form not in places:
            unknown.append(clip)
        elif places[form] in rows:
            raise UserError(f"{found.where}: {found.ids[rows[places[form]]]} and {clip} are the same clip")
        else:
            rows[places[form]] = row
    if unknown:
        named = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        say(f"{found.where}: {len(unknown)} predictions of clips that are not asked for ({named})")
    return dict(sorted(rows.items()))


def measure_rows(
    found: Predictions, notes: Sequence[Annotation], rows: Mapping[int, int], protocol: Protocol
) -> dict[str, ClipResults]:
    """Return the results of the predictions, and for maps those of a box in the middle."""
    places = list(rows)
    parts: dict[str, list[ClipResults]] = {}
    for start in range(0, len(places), _PIECE):
        some = places[start : start + _PIECE]
        index, known = np.array(some), [notes[place] for place in some]
        truths = stack_truths(known, protocol, torch.device("cpu"))
        maps = found.maps([rows[place] for place in some], protocol.size)
        try:
            columns = {"model": measure_maps(maps, truths, protocol)}
        except ValueError as error:
            raise UserError(f"{found.where}: clips {known[0].id} to {known[-1].id}: {error}") from None
        if found.kind == "maps":
            nobody = torch.zeros(len(some), 0)
            columns["centered_box"] = centered_box(nobody, nobody, truths, protocol)
        for name, values in columns.items():
            parts.setdefault(name, []).append(clip_results(index, known, values))
    return {name: join_results(some) for name, some in parts.items()}


def join_results(parts: Sequence[ClipResults]) -> ClipResults:
    """Return the rows of several results as one."""
    facts = {name: np.concatenate([part.facts[name] for part in parts]) for name in parts[0].facts}
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].columns}
    return ClipResults(**facts, columns=columns).in_order()
