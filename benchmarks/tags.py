"""Choose the settings of the localizer `tags` without boxes, and measure it on clips with boxes.

    python -m benchmarks.tags choose data/vggsound             # own sounds against those of other clips
    python -m benchmarks.tags fit data/vggsound                # θ, to cacl/model/tags/calibration.json
    python -m benchmarks.tags measure data/films data/pairs    # beside objects, a square, another sound

Both want shards of 32 kHz: cacl pack SOURCE --sample-rate 32000 --seconds 3 --frame-side 416. The settings
were chosen on clips of VGG-Sound that have no boxes, and committed before anything was measured on boxes.

Axes: `n` clips, `P` places, `D` numbers of a place and of a sound.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.miniature.analysis import replace_section
from cacl.errors import UserError
from cacl.evaluation import metrics
from cacl.evaluation.compare import Estimate, mean_over_clips
from cacl.evaluation.measure import stack_truths
from cacl.evaluation.protocols import get_protocol
from cacl.evaluation.systems import centered_box
from cacl.evaluation.upsampling import upsample
from cacl.files import write_json
from cacl.model.tags.localizer import GRID, Settings, load_tags
from cacl.model.tags.table import IMAGENET_CLASSES
from cacl.runs.calibration import PLAIN, Calibration
from cacl.runs.tags import FITTED, HEARD
from cacl.types import Batch
from cacl.world import World
from launch.jobs.calibrate import fit_to
from launch.jobs.negatives import Draws, Listening, Sounds
from launch.jobs.tags import open_clips, open_for

PIXELS = (224, 320, 448)
"""Of the classifier's side."""
TRIED = {
    "sharpness": (0.33, 0.5, 1.0),
    "company": (0.0, 0.25, 0.5, 1.0),
    "breadth": (0.0, 0.25, 0.5),
    "boxes": (0.0, 0.25, 0.5, 0.75, 1.0),
}
"""What `choose` tries; `boxes` is their share of what is heard, the classifier's classes have the rest."""
ROWS = ("objects alone", "centered square", "tags without boxes", "tags", "another clip's sound")
OBJECTS = 1 / 3
"""Weight of deaf objects: a third, by convention, since no sound can tell it."""


def read_clips(location: str) -> Iterator[Batch]:
    """Yield the clips of shards, whole frames and the middle 3 s of their sounds."""
    clips = open_clips(location, workers=0)
    if clips.augmentation.sample_rate != HEARD.sample_rate:
        raise UserError(f"{location}: pack it with --sample-rate {HEARD.sample_rate}")
    yield from clips.batches(clips.store.indices, 8)


def won(peaks: Tensor) -> float:
    """Return how often a frame answers its own sound more than another clip's, of peaks [n, n].

    `peaks[i, j]` is the highest value of the map of frame i and sound j; ties count half.
    """
    own = peaks.diagonal()[:, None]
    others = ~torch.eye(len(peaks), dtype=torch.bool)
    more, same = (own > peaks)[others].double().mean(), (own == peaks)[others].double().mean()
    return float(more + same / 2)


def choose(location: str) -> list[tuple[float, Settings]]:
    """Return all settings with their share of comparisons won by the own sound, the best first.

    The share is the mean over both ways: of frames that answer their own sound more, and of sounds that are
    answered more by their own frame. Differences of half a point are chance with forty clips: of settings so
    near the best one was taken that lies at no end of what was tried, there was one.
    """
    model = load_tags()
    batches = list(read_clips(location))
    faint = torch.cat([model.tagger(batch.waveforms) for batch in batches])
    found = []
    for pixels in PIXELS:
        model.tune(Settings(pixels=pixels))
        seen = torch.cat([model.see(batch.images) for batch in batches])
        for values in itertools.product(*TRIED.values()):
            given = dict(zip(TRIED, values, strict=True))
            share = given.pop("boxes") * (1 - OBJECTS)
            settings = Settings(pixels, **given, objects=OBJECTS, classes=1 - OBJECTS - share, boxes=share)
            model.tune(settings)
            heard = model.weigh(faint)[:, 1:].T  # objects are deaf: they would win and lose nothing
            peaks = torch.stack([(one[:, 1:] @ heard).amax(0) for one in seen])
            found.append(((won(peaks) + won(peaks.T)) / 2, settings))
    return sorted(found, key=lambda one: -one[0])


def fit(location: str) -> Calibration:
    """Return the θ of the localizer on clips without boxes, as `cacl calibrate` fits that of a run."""
    clips = open_clips(location, workers=0)
    model = open_for(clips)
    listening = Listening(model, Sounds(Draws(), clips))
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit_to(listening, model.identity(), "model", PLAIN, Path(folder), World())
    assert fitted is not None  # this is the only rank
    return fitted


@dataclass(frozen=True)
class Measured:
    """Mean adaptive IoU of each row over clips, and what the whole localizer gains over each other one."""

    clips: int
    rows: dict[str, Estimate]
    gains: dict[str, Estimate]


def measure(locations: Sequence[str]) -> Measured:
    """Return the rows of the clips of all shards together; a clip that two of them hold counts once.

    `another clip's sound` is the mean over the sounds of all clips of other classes. Adaptive IoU takes as
    many of a map's pixels as the truth has (`vggss`: pixels on which annotators agree).
    """
    model, protocol = load_tags(), get_protocol("vggss")
    batches = [distinct for distinct in _distinct(locations) if len(distinct.index)]
    classes = np.array([note.class_name for batch in batches for note in batch.annotations or []])
    heard = torch.cat([model.weigh(model.tagger(batch.waveforms)) for batch in batches])
    values: dict[str, list[float]] = {name: [] for name in ROWS}
    row = 0
    for batch in batches:
        truths = stack_truths(batch.annotations or [], protocol, torch.device("cpu"))
        square = centered_box(batch.images, batch.waveforms, truths, protocol)["ciou_adaptive"]
        values["centered square"] += square.tolist()
        for seen, truth in zip(model.see(batch.images), truths["boxes"], strict=True):
            deaf = torch.zeros_like(heard[row])
            deaf[0] = 1
            silenced = heard[row].clone()
            silenced[1 + IMAGENET_CLASSES :] = 0
            others = heard[torch.from_numpy(classes != classes[row])]
            spoken = torch.stack([deaf, silenced, heard[row], *others])
            maps = upsample((spoken @ seen.T).unflatten(1, (GRID, GRID)), protocol.size, protocol.upsampling)
            truth = truth.expand(len(maps), -1, -1)
            taken = metrics.area_prediction(maps, metrics.covered(truth))
            found = metrics.ciou_per_clip(taken, truth).tolist()
            values["objects alone"].append(found[0])
            values["tags without boxes"].append(found[1])
            values["tags"].append(found[2])
            values["another clip's sound"].append(float(np.mean(found[3:])))
            row += 1
    numbers = {name: mean_over_clips(np.array(one)) for name, one in values.items()}
    gains = {name: numbers["tags"].less(one).interval() for name, one in numbers.items() if name != "tags"}
    return Measured(row, {name: one.interval() for name, one in numbers.items()}, gains)


def _distinct(locations: Sequence[str]) -> Iterator[Batch]:
    """Yield the clips of all shards, each id once, those that can be decoded."""
    known = set[str]()
    for location in locations:
        for batch in read_clips(location):
            notes = batch.annotations or []
            kept = [k for k, note in enumerate(notes) if batch.valid[k] and note.id not in known]
            known |= {notes[k].id for k in kept}
            yield Batch(
                batch.index[kept],
                batch.images[kept],
                batch.waveforms[kept],
                batch.valid[kept],
                [notes[k] for k in kept],
            )


def as_page(found: Measured) -> str:
    """Return the rows and the gains as a table of Markdown."""
    lines = [
        f"Mean adaptive IoU of {found.clips} clips, with 95 % intervals over clips, the gains paired:",
        "",
        "| row | IoU | tags less this |",
        "| --- | --- | --- |",
    ]
    for name, one in found.rows.items():
        gain = found.gains.get(name)
        less = "" if gain is None else f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        lines.append(f"| {name} | {one.value:.3f} [{one.low:.3f}, {one.high:.3f}] | {less} |")
    return "\n".join(lines)


def main() -> None:
    """Choose or measure, and print."""
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    parser.add_argument("what", choices=["choose", "fit", "measure"])
    parser.add_argument("data", nargs="+", metavar="DIR", help="packed clips")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into its section")
    arguments = parser.parse_args()
    if arguments.what == "choose":
        best = choose(arguments.data[0])[:10]
        if arguments.json:
            print(json.dumps([{"won": share, **asdict(settings)} for share, settings in best]))
        for share, settings in [] if arguments.json else best:
            print(f"{share:.4f} {settings}")
        return
    if arguments.what == "fit":
        write_json(FITTED, fit(arguments.data[0]).plain())
        return
    found = measure(arguments.data)
    if arguments.json:
        print(json.dumps(asdict(found)))
        return
    page = as_page(found)
    print(page)
    if arguments.write:
        replace_section(arguments.write, "measured", page)


if __name__ == "__main__":
    main()
