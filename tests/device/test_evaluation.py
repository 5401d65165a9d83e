"""Every protocol measures maps where they lie, and brings a few numbers a clip to the host."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cacl
from cacl.annotation import Annotation, SoundSource
from cacl.evaluation import metrics
from cacl.evaluation.measure import measure_batch
from cacl.evaluation.protocols import CONTROLS, PROTOCOLS, Protocol
from cacl.evaluation.refinement import MIXINGS, mix_maps, object_maps
from cacl.evaluation.systems import centered_box, maps_of, system_of
from cacl.model import audio, image
from cacl.model.localizer import Localizer, ModelOptions
from cacl.types import Batch
from launch.jobs.calibrate import highest
from launch.jobs.negative_numbers import at_theta, truths_of
from launch.jobs.negatives import Draws, Listening, Sounds
from tests.device.crossings import EVALUATION, EVALUATOR, NEGATIVES
from tests.device.flow import DEVICE, DeviceFlow

EVERY = [*PROTOCOLS.values(), *(control for controls in CONTROLS.values() for control in controls.values())]
SIDE = 32


def small(protocol: Protocol) -> Protocol:
    """The same protocol on few pixels."""
    return replace(protocol, size=SIDE)


def host_batch() -> Batch:
    """Three test clips as a loader delivers them, one of them silent, and one that could not be decoded."""
    generator = torch.Generator().manual_seed(0)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:12, 4:20] = True
    box = (4 / SIDE, 4 / SIDE, 20 / SIDE, 12 / SIDE)
    first = SoundSource("a", (box, (0.0, 0.0, 0.9, 0.9)), mask)
    other = SoundSource(boxes=(box,), audible=False, audio="other.wav")
    unseen = SoundSource("a", boxes=(), visible=False)
    notes = [(first, other), (unseen, other), None, (first, other)]
    return Batch(
        index=torch.arange(4),
        images=torch.randint(0, 255, (4, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8),
        waveforms=torch.rand(4, 4000, generator=generator) - 0.5,
        valid=torch.tensor([True, True, False, True]),
        annotations=[Annotation(f"clip-{k}", sources=sources) for k, sources in enumerate(notes)],
    )


def systems():
    """A model, a box, objects, and both ways of mixing them, on the device."""
    options = ModelOptions(image=image.SmallCnn(channels=16), audio=audio.SmallCnn(channels=16), dimension=8)
    model = maps_of(Localizer(options).eval().to(DEVICE))
    objects = object_maps(image.SmallCnn(channels=16, frozen=True).build().to(DEVICE))
    mixed = {
        name: system_of(mix_maps(model, objects, mixing(), small(PROTOCOLS["vggss"])))
        for name, mixing in MIXINGS.items()
    }
    return {"model": system_of(model), "box": centered_box, "objects": system_of(objects), **mixed}


@pytest.mark.parametrize("decoded_on_device", [False, True], ids=["host", "device"])
def test_every_protocol_measures_on_the_device(decoded_on_device):
    with DeviceFlow(EVALUATION) as flow:
        every, batch = systems(), host_batch()
        if decoded_on_device:  # as by DALI
            batch = replace(batch, images=batch.images.to(DEVICE))
        for protocol in EVERY:
            for one, clips in ((batch, 3), (replace(batch, valid=torch.zeros(4, dtype=torch.bool)), 0)):
                results = measure_batch(every, one, small(protocol), DEVICE)
                assert all(len(result) == clips for result in results.values())
    assert flow.crossed == EVALUATION.keys()


def test_the_evaluator_alone_takes_maps_and_masks_from_the_device():
    mask = torch.zeros(2, SIDE, SIDE)
    mask[:, 4:12, 4:20] = 1
    box = (4 / SIDE, 4 / SIDE, 20 / SIDE, 12 / SIDE)
    maps = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(0))
    host = cacl.evaluate(maps, [[box], []], "extended-stamps", masks=mask)
    with DeviceFlow(EVALUATION | EVALUATOR) as flow:
        there = cacl.evaluate(maps.to(DEVICE), [[box], []], "extended-stamps", masks=mask.to(DEVICE))
    assert there == pytest.approx(host, abs=1e-9), "both forms of the passes over pixels"
    assert flow.crossed == EVALUATION.keys() - {"cacl.evaluation.metrics.ceiling_ciou"} | EVALUATOR.keys()


def test_numbers_of_clips_on_the_device_stay_there():
    with DeviceFlow():
        maps, truth = torch.zeros(0, SIDE, SIDE, device=DEVICE), torch.zeros(0, SIDE, SIDE, device=DEVICE)
        ciou = torch.tensor([0.2, 0.7], dtype=torch.float64, device=DEVICE)
        assert metrics.pixel_ap_per_clip(maps, truth).device == metrics.auc_per_clip(ciou).device == DEVICE


def test_negative_sound_is_heard_and_counted_where_the_model_is():
    """θ's highest values and the numbers at θ, over batches of the host."""
    options = ModelOptions(image=image.SmallCnn(channels=16), audio=audio.SmallCnn(channels=16), dimension=8)
    protocol, batch = small(PROTOCOLS["boxes"]), host_batch()
    store = SimpleNamespace(indices=np.arange(4))
    sounds = Sounds(Draws(("silence", "noise", "10dB"), 2), SimpleNamespace(store=store))  # type: ignore[arg-type]
    with DeviceFlow(NEGATIVES) as flow:
        listening = Listening(Localizer(options).eval().to(DEVICE), sounds)
        maps = dict(listening.maps(batch, DEVICE))
        assert {heard.device.type for heard in maps.values()} == {"cuda"}
        truth = truths_of(batch, protocol, maps["own"].device)
        columns = at_theta(maps, truth, 0.0, protocol)
        assert {values.shape for values in columns.values()} == {(4, 2), (4,)}
        assert {kind: values.shape for kind, values in highest("bicubic", maps, batch).items()} == {
            "own": (4,), "silence": (4, 2), "noise": (4, 2), "10dB": (4, 2)
        }  # fmt: skip
    assert flow.crossed == NEGATIVES.keys()
