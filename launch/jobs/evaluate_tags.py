"""Measure the localizer without training, `tags`, by a protocol, beside mere objects and the centered box."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from cacl.errors import UserError
from cacl.evaluation import results
from cacl.evaluation.protocols import Protocol, get_protocol
from cacl.evaluation.refinement import once_a_batch
from cacl.evaluation.systems import maps_of
from cacl.evaluation.upsampling import Upsampling, upsample
from cacl.resumable import kept
from cacl.runs.tags import NAME, fitted
from cacl.world import World
from launch.jobs import Say
from launch.jobs.baselines import Guidance
from launch.jobs.evaluate import check_size, measure_systems, write_record
from launch.jobs.measuring import Measurement, restrict_systems
from launch.jobs.negative_numbers import Negatives, measure_negatives
from launch.jobs.negatives import Draws
from launch.jobs.tags import open_clips, open_for


def evaluate_tags(
    data: str,
    out: str | Path,
    world: World | None = None,
    *,
    protocol: str = "vggss",
    upsampling: Upsampling | None = None,
    without_quirks: Collection[str] = (),
    ids: Sequence[str] | None = None,
    negatives: Draws | None = None,
    labels: str | None = None,
    workers: int = 2,
    say: Say = lambda sentence: None,
) -> dict[str, Any] | None:
    """Measure `tags` on the clips at `data`, write the results to `out`, return the record on rank 0.

    Every rank of `world` calls this. The results have the form of a run's, for `cacl compare`. Raises
    UserError where clips and options do not fit, or their sounds are stored at less than the tagger hears.
    `negatives` measures also how it answers sounds that nothing in view makes, at the θ that comes with it;
    `labels` tell which those are where clips have no classes.
    """
    world = world or World()
    measured_by = get_protocol(protocol).alter(upsampling, without_quirks)
    clips = open_clips(data, workers)
    check_size(measured_by, len(clips.store.indices if ids is None else ids))
    model = open_for(clips).to(world.device)
    asked = judge_negatives(negatives, measured_by, labels) if negatives else None
    options = asked.options() if asked else {}
    name = results.evaluation_name(measured_by, options)
    parts = Path(out) / "evaluation" / f".{name}.parts"
    work = Measurement(clips, parts, {"model": model.identity()}, world)
    with kept(work.parts, world):
        maps = {"model": once_a_batch(maps_of(model))}
        measured, said = measure_systems(maps, Guidance(), work, measured_by, say)
        heard = measure_negatives(asked, model, work, measured_by) if asked else None
        if not world.is_main:
            return None
        measured, missing = restrict_systems(measured, ids, clips.store)
        subject = results.Subject(measured_by, clips.store.fingerprint, NAME, missing, options)
        return write_record(out, subject, measured, {"object_guidance": said}, asked, heard)


def judge_negatives(draws: Draws, protocol: Protocol, labels: str | None) -> Negatives:
    """Return what is measured at the θ of `tags`. Raises UserError where it is none under this protocol."""
    (theta,) = fitted()
    if (protocol.scores, protocol.upsampling) != (upsample, theta.upsampling):
        raise UserError(
            f"--negatives: the θ of {NAME} is for {theta.upsampling} upsampling of its own maps, and "
            f"{protocol.name} measures others; add --upsampling {theta.upsampling}, or name another protocol"
        )
    return Negatives(draws, theta, labels)
