"""Jobs on the device, from shards to what they write: evaluation by every protocol, labels, and a second round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cacl.evaluation.protocols import CONTROLS, PROTOCOLS
from cacl.evaluation.systems import maps_of
from cacl.runs.load import open_model
from cacl.world import World
from launch.jobs.baselines import Mixing
from launch.jobs.cluster import cluster
from launch.jobs.evaluate import evaluate
from launch.jobs.label import label
from launch.jobs.measuring import open_test
from launch.jobs.pack import pack
from launch.jobs.relabel import relabel
from launch.jobs.report import examples
from shards.decoders.torch import TorchDecoder
from shards.sources.generated import Generated
from tests.device.crossings import EVALUATION, LABEL_JOB, LABELS, REPORT
from tests.device.flow import DEVICE, DeviceFlow


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> str:
    """Clips that are not those of `data`."""
    folder = tmp_path_factory.mktemp("others")
    pack(Generated(clips=6, seed=1), folder)
    return str(folder)


@pytest.mark.device
@pytest.mark.parametrize(
    "protocol", sorted(PROTOCOLS.keys() - CONTROLS.keys())
)  # generated clips have no silent object
def test_a_run_is_evaluated_on_the_device(run, data, others, protocol):
    guidance: Mixing | None = "fixed-range" if protocol == "vggss" else None
    with DeviceFlow(EVALUATION):
        record = evaluate(
            run,
            World(device=DEVICE),
            data=str(data),
            protocol=protocol,
            object_guidance=guidance,
            alpha="choose" if guidance else 0.4,
            validation=others if guidance else None,
        )
    assert record is not None


@pytest.mark.device
def test_clips_are_labeled_and_relabeled_on_the_device(run, data, tmp_path):
    world = World(device=DEVICE)
    with DeviceFlow(LABELS | LABEL_JOB):
        table = label(str(data), tmp_path / "a.parquet", region=str(run), workers=0, world=world)
        assert table is not None
        relabel(table.path, str(data), str(run), tmp_path / "b.parquet", workers=0, world=world)
        cluster(str(data), tmp_path / "c.parquet", of="fused", clusters=4, workers=0, world=world)


class DecodedOnDevice(TorchDecoder):
    """Pictures on the device, as DALI decodes them."""

    def stream(self, *arguments):
        for batch in super().stream(*arguments):
            yield replace(batch, images=batch.images.to(DEVICE))


def test_a_report_shows_clips_that_were_decoded_on_the_device(run, data):
    with DeviceFlow(REPORT):
        clips, protocol = open_test(run, str(data), "vggss")
        clips = replace(clips, decoder=DecodedOnDevice())
        model, _ = open_model(run)
        (shown,) = examples({"model": maps_of(model)}, clips, [0], protocol).values()
    assert np.isfinite(shown.views[0].scores.numpy()).all() and shown.frame.device.type == "cpu"
