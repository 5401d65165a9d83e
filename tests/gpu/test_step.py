"""Promises 4 and 5 on every device: the step is the processor's, in every form and by every engine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch

from cacl.model import audio, image
from cacl.model.localizer import Localizer, ModelOptions
from cacl.model.spectrograms import LogMel, LogSpectrogram
from cacl.world import World
from tests.gpu.devices import SELDOM_HERE
from tests.gpu.steps import Curve, How, curve
from tests.helpers.ranks import run_ranks
from tests.training.steps import CLIPS


@pytest.fixture(scope="module")
def expected() -> Curve:
    """The processor's steps in double precision."""
    return curve(World(), "cpu", How())


def check(found: Curve, wanted: Curve, rtol: float, atol: float) -> None:
    assert found.losses == pytest.approx(wanted.losses, rel=rtol, abs=atol)
    assert found.norms == pytest.approx(wanted.norms, rel=10 * rtol, abs=atol)
    for ours, theirs in ((found.state, wanted.state), (found.average, wanted.average)):
        for name, value in ours.items():
            torch.testing.assert_close(value.double(), theirs[name].double(), rtol=rtol, atol=atol, msg=name)


@pytest.mark.parametrize("micro", [4, CLIPS], ids=["cached", "plain"])
def test_in_double_precision_only_the_order_of_sums_differs(device, micro):
    check(curve(World(), str(device), How(micro=micro)), curve(World(), "cpu", How(micro=micro)), 1e-7, 1e-9)


@pytest.mark.parametrize("channels_last", [False, True], ids=["", "channels last"])
def test_in_single_precision_the_step_is_that_of_double(device, expected, channels_last):
    """Adam divides a gradient by its size, so that one that is near 0 may move a weight by all of 1e-3."""
    found = curve(World(), str(device), How(dtype=torch.float32, channels_last=channels_last))
    assert found.losses == pytest.approx(expected.losses, rel=1e-4)
    check(found, expected, 1e-3, 6e-3)


def test_in_bfloat16_the_loss_is_near_and_the_weights_stay_single(device, expected):
    """Eight bits: 2^-8 a rounding, of which a tower of four layers makes a few."""
    found = curve(World(), str(device), How(dtype=torch.float32, precision="bfloat16"))
    assert found.losses == pytest.approx(expected.losses, rel=0.05)
    assert found.losses[0] != pytest.approx(expected.losses[0], rel=1e-6), "bfloat16 is at work"
    assert all(
        value.dtype == torch.float32 for name, value in found.state.items() if "num_batches" not in name
    )


@SELDOM_HERE
def test_compiled_towers_take_the_same_steps(device, expected):
    found = curve(World(), str(device), How(dtype=torch.float32, compile=True))
    assert found.losses == pytest.approx(expected.losses, rel=1e-4)
    check(found, expected, 1e-3, 6e-3)


@SELDOM_HERE
def test_two_ranks_on_one_device_end_in_the_model_of_one(device, expected):
    """gloo, which moves a GPU's tensors too; nccl refuses two ranks on one GPU."""
    for found in run_ranks(2, curve, str(device), How()):
        check(found, expected, 1e-7, 1e-9)


@pytest.fixture(scope="module")
def alone() -> Iterator[ProcessPoolExecutor]:
    """A process that is in no group, and that DeepSpeed may change as it does."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        yield pool


@SELDOM_HERE
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_deepspeed_takes_the_steps_of_ddp(device, alone, zero):
    """In a group of its own, by nccl on a GPU, as several processes have it."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed here")
    how = How(dtype=torch.float32, averaged=zero != 3)
    wanted = curve(World(), str(device), how)
    found = alone.submit(curve, World(), str(device), replace(how, zero=zero)).result()
    # As in tests/training/test_deepspeed.py: buckets add gradients in another order.
    torch.testing.assert_close(torch.tensor(found.losses), torch.tensor(wanted.losses), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(found.norms), torch.tensor(wanted.norms), rtol=1e-3, atol=1e-5)
    for name, value in found.state.items():
        torch.testing.assert_close(value, wanted.state[name], rtol=1e-3, atol=2e-4, msg=name)


MODELS = {
    "the paper's pair": ModelOptions(image=image.ResNet18(), audio=audio.ResNet18(), features=LogMel()),
    "small, log spectrogram": ModelOptions(
        image=image.SmallCnn(channels=16), audio=audio.SmallCnn(channels=16), features=LogSpectrogram()
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_frames_and_sounds_are_embedded_as_on_the_processor(device, name):
    """From uint8 and samples: normalization, spectrogram, towers and heads; unit vectors in float32."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 96, 96), generator=draw, dtype=torch.uint8)
    waveforms = torch.rand(3, 16000, generator=draw) * 2 - 1
    model = Localizer(MODELS[name], seed=1).eval()
    with torch.no_grad():
        wanted_inputs = model.double().prepare(images, waveforms.double())
        wanted = model(*wanted_inputs)
        model = model.float().to(device)
        prepared = model.prepare(images.to(device), waveforms.to(device))
        found = model(*prepared)
    # A logarithm of power near 0 magnifies rounding: 1e-3 of an image whose values reach 5.
    for ours, theirs in zip(prepared, wanted_inputs, strict=True):
        torch.testing.assert_close(ours.cpu().double(), theirs, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(found.image.cpu().double(), wanted.image.double(), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.audio.cpu().double(), wanted.audio.double(), rtol=0, atol=1e-3)
