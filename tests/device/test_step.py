"""Promise 6: a step stays on the device from upload to average, and its numbers come one step late."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from cacl.loss import LossOptions, LossTerms, global_loss
from cacl.model import audio, image
from cacl.model.acceleration import speed_up
from cacl.model.heads import DecoderHead, MlpHead
from cacl.model.localizer import Localizer, ModelOptions
from cacl.model.spectrograms import LogSpectrogram
from cacl.options import parse
from cacl.processes import GO_ON
from cacl.runs.directory import Run
from cacl.training.ema import Ema
from cacl.training.engines.ddp import DDP
from cacl.training.logbook import Logbook
from cacl.training.meter import Meter
from cacl.training.optimization import SGD, AdamW
from cacl.training.step import StepRecord, train_step
from cacl.training.stopping import StopFlag
from cacl.training.trainer import StepReader, prepare
from cacl.world import World
from launch.jobs.data import label_joiner
from tests.device.batches import CLIPS, host_batch
from tests.device.crossings import COPY, METER, ONCE
from tests.device.flow import DEVICE, DeviceFlow

SMALL: dict[str, Any] = {
    "image": image.SmallCnn(channels=16, norm="batch"),
    "audio": audio.SmallCnn(channels=16, norm="batch"),
    "dimension": 8,
    "image_dropout": 0.5,
}
LOSS = {
    "similarity": {"name": "max"},
    "objective": {"name": "infonce"},
    "learn_temperature": True,
    "kernel": "torch",  # Triton's wants the GPU itself
}


def take_steps(model: ModelOptions, loss: dict[str, Any] = LOSS, micro: int = 2, **choices: Any) -> None:
    """Take two steps, the second with an optimizer's state, as the trainer does."""
    world, options = World(device=DEVICE), parse(LossOptions, loss, "test")
    fast = {"compile": False, "channels_last": False, "activation_checkpointing": False} | choices.pop(
        "fast", {}
    )
    with DeviceFlow():
        localizer = Localizer(model, options.scalars(), head=options.head).train()
        speed_up(localizer, **fast)
        engine = DDP().build(localizer, choices.pop("optimizer", SGD()), world, **choices)
        average = Ema(engine.module, 0.9)
        join = label_joiner(None, DEVICE)
    with DeviceFlow(ONCE | COPY, within_step=True) as flow:
        stop = StopFlag(lambda: False, world)
        for step in range(2):
            batch = host_batch(options.objective.views)
            record = train_step(
                engine,
                prepare(engine, batch, micro),
                join(batch.index, batch.valid),
                partial(global_loss, options=options, world=world, step=step),
                seed=0,
                step=step,
                learning_rate_factor=1.0,
                average=average,
            )
            options.clamp_(dict(engine.module.scalars))
            if step == 0:
                stop.exchange()
        tensors = [record.terms.per_clip, record.gradient_norm, *record.scalars.values()]
        tensors += [*engine.module.state_dict().values(), *average.state_dict().values()]
        assert {tensor.device for tensor in tensors} == {DEVICE}
    assert COPY.keys() <= flow.crossed, "whether to stop is asked on the device"


PLAIN, CACHED = CLIPS, 2


@pytest.mark.parametrize("micro", [PLAIN, CACHED], ids=["plain", "cached"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_never_leaves_the_device(micro, precision):
    take_steps(ModelOptions(**SMALL), micro=micro, precision=precision, clip_gradient_norm=0.1)


def test_a_step_s_numbers_are_read_while_the_next_one_is_under_way(tmp_path):
    """What the host has waited for when it reads is less than what it has launched."""
    world = World(device=DEVICE)
    with DeviceFlow(METER) as flow:
        meter = Meter(world, batches_per_epoch=10)
        reader = StepReader(meter, Logbook(Run(tmp_path), (), 0, 3), "stop", world)
        stop = StopFlag(lambda: False, world)
        for step in range(1, 4):
            numbers = torch.ones(2, device=DEVICE)
            terms = LossTerms(numbers, numbers.mean(), numbers.sum(), {"valid": numbers.sum()})
            assert stop.exchange() == GO_ON
            record = StepRecord(terms, numbers.sum(), {})
            reader.add(meter.close_step(step, 0.1, record, torch.arange(2)))
            assert flow.landed < flow.launched
        reader.finish()
        meter.close()
    assert [line["step"] for line in Run(tmp_path).records()] == [1, 2, 3] and flow.crossed == METER.keys()


WHOLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ResNet-18 twice, at stride 16": (
        {"image": image.ResNet18(stride=16), "audio": audio.ResNet18(), "features": LogSpectrogram()},
        {"optimizer": AdamW()},
    ),
    "a frozen trunk, a deeper head": (
        {"image": image.EfficientNetLite0(weights="none"), "head": MlpHead(hidden=8)},
        {"precision": "bfloat16"},
    ),
    "a frozen ResNet-18": ({"image": image.ResNet18(frozen=True)}, {}),
    "a trunk of timm's, finer maps": (
        {"image": image.Timm(model="resnet10t", stride=16), "head": DecoderHead(hidden=8)},
        {"fast": {"activation_checkpointing": True}},
    ),
    "activations computed again, channels last": (
        SMALL,
        {"fast": {"activation_checkpointing": True, "channels_last": True}, "micro": PLAIN},
    ),
    "SSPL's head": (
        SMALL,
        {"loss": {"positives": {"name": "own-clip"}, "objective": {"name": "sspl"}}},
    ),
    "SLAVC's two heads": (SMALL | {"heads": 2}, {"loss": LOSS | {"similarity": {"name": "attention"}}}),
    "FNAC": (SMALL, {"loss": LOSS | {"regularizers": [{"name": "fnac"}]}}),
}


@pytest.mark.device
@pytest.mark.parametrize("name", WHOLE)
def test_steps_of_every_kind_of_model_never_leave_the_device(name):
    model, choices = WHOLE[name]
    take_steps(ModelOptions(**model), **choices)
