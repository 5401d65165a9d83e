"""Promise 15: our step follows the public code of SSPL (zjsong/SSPL, `sspl_wo_pcm`) in float64.

Weights and inputs are made by a rule (tests/golden/README.md); of every tensor the file holds two numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cacl.loss import global_loss
from cacl.loss.options import LossOptions
from cacl.loss.positives import OwnClip
from cacl.loss.sspl import Sspl
from cacl.model.audio import Vggish
from cacl.model.heads import NoHead
from cacl.model.image import VGG16
from cacl.model.localizer import Localizer, ModelOptions
from cacl.model.spectrograms import VggishLogMel
from cacl.training.engines.ddp import DDP, DDPEngine
from cacl.training.optimization import SGD, AdamW, Rates
from cacl.training.step import train_step
from cacl.types import ClipLabels
from cacl.world import World

LOSS = LossOptions(positives=OwnClip(), objective=Sspl())
MODEL = ModelOptions(
    image=VGG16(frozen=True), audio=Vggish(), features=VggishLogMel(), head=NoHead(), dimension=512
)
NAMES = {
    "net_frame.feat_extractor.": "image_trunk.body.features.",
    "net_sound.features.": "audio_trunk.frozen.features.",
    "net_sound.embeddings.": "audio_trunk.frozen.embeddings.",
    "net_sound.fc.0.": "audio_trunk.body.0.",
    "net_sound.fc.2.": "audio_heads.0.",
    "net_ssl_head.projector.layer1.0.": "loss_head.projector.0.",
    "net_ssl_head.projector.layer1.1.": "loss_head.projector.1.",
    "net_ssl_head.projector.layer2.0.": "loss_head.projector.3.",
    "net_ssl_head.projector.layer2.1.": "loss_head.projector.4.",
    "net_ssl_head.projector.layer3.0.": "loss_head.projector.6.",
    "net_ssl_head.projector.layer3.1.": "loss_head.projector.7.",
    "net_ssl_head.predictor.layer1.0.": "loss_head.predictor.0.",
    "net_ssl_head.predictor.layer1.1.": "loss_head.predictor.1.",
    "net_ssl_head.predictor.layer2.": "loss_head.predictor.3.",
}
"""Their names and ours, by what they begin with."""


def ours(name: str) -> str:
    (prefix,) = (prefix for prefix in NAMES if name.startswith(prefix))
    return NAMES[prefix] + name.removeprefix(prefix)


def uniform(shape: Any, *key: int) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([*key])))
    return 2 * generator.random(tuple(shape)) - 1


def drawn(seed: int, number: int, shape: list[int], kind: str) -> Tensor:
    """A weight by the rule of its row."""
    if kind in ("zeros", "ones"):
        return torch.full(shape, float(kind == "ones"))
    draw = torch.from_numpy(uniform(shape, seed, number))
    if kind.startswith("uniform "):
        return float(kind.removeprefix("uniform ")) * draw
    return (1 if kind.startswith("1 + ") else 0) + 0.05 * draw


def figures(tensors: dict[str, Tensor], names: list[str], seed: int) -> np.ndarray:
    """Norm and projection of each tensor [names, 2]."""
    found = []
    for number, name in enumerate(names):
        value = tensors[ours(name)].detach().numpy()
        found.append([np.linalg.norm(value), (value * uniform(value.shape, seed, 10000 + number)).sum()])
    return np.array(found)


@dataclass(frozen=True)
class Start:
    """What both trajectories begin with."""

    golden: Any
    model: Localizer
    learned: dict[str, Tensor]
    """The state of what is not frozen."""
    inputs: list[tuple[Tensor, Tensor]]
    """What the frozen networks make of each step's inputs."""

    def engine(self, name: str) -> DDPEngine:
        """Return an engine of the model as it was, with the optimizer `name`."""
        rate, decay, head = (
            float(self.golden[f"{name}/{key}"])
            for key in ("learning_rate_sound", "weight_decay", "learning_rate_head")
        )
        kind = {"sgd": SGD, "adamw": AdamW}[name]
        self.model.load_state_dict(self.learned, strict=False)
        optimizer = kind(learning_rate=rate, weight_decay=decay, decay="all", rates=Rates(loss=head))
        return DDP().build(self.model, optimizer, World())


@pytest.fixture(scope="module")
def start(golden_dir) -> Start:
    golden = np.load(golden_dir / "trajectory_sspl.npz")
    seed = int(golden["seed"])
    model = Localizer(MODEL, head=LOSS.head).double().train()
    rows = json.loads(str(golden["weights"]))
    state = {ours(name): drawn(seed, number, shape, kind) for name, number, shape, kind in rows}
    missing, surplus = model.load_state_dict(state, strict=False)
    assert not surplus and all("num_batches_tracked" in name for name in missing)
    inputs = []
    with torch.no_grad():
        for step in range(int(golden["steps"])):
            views = [uniform(golden["image_shape"], seed, first + step) for first in (20000, 25000)]
            # Theirs have an axis of one channel after the examples.
            examples = (2 * uniform(golden["examples_shape"], seed, 30000 + step) - 1).squeeze(2)
            seen = torch.stack([model.image_trunk(torch.from_numpy(2 * view)) for view in views], 1)
            inputs.append((seen, model.audio_trunk.prepare(torch.from_numpy(examples))))
    frozen = ("image_trunk.", "audio_trunk.frozen.")
    learned = {name: value for name, value in state.items() if not name.startswith(frozen)}
    return Start(golden, model, learned, inputs)


class Gradients:
    """Each step's gradients, taken where the engine is about to use them."""

    def __init__(self, engine: DDPEngine) -> None:
        self.found: dict[str, Tensor] = {}
        self._named = dict(engine.module.named_parameters())
        engine.optimizer.register_step_pre_hook(self._take)

    def _take(self, *arguments: Any) -> None:
        self.found = {name: p.grad.clone() for name, p in self._named.items() if p.grad is not None}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_trajectory_of_the_public_code_is_followed(start, optimizer):
    """Loss, gradients, parameters and running statistics of every step, to 1e-10 of their size."""
    golden = start.golden
    seed, count = int(golden["seed"]), int(golden["batch"])
    names, statistics = golden["names"].tolist(), golden["statistics_names"].tolist()
    engine = start.engine(optimizer)
    gradients, index = Gradients(engine), torch.arange(count)
    clips = ClipLabels(index, index, torch.ones(count), torch.ones(count, dtype=torch.bool))
    trained = {name for name, p in engine.module.named_parameters() if p.requires_grad}
    assert trained == {ours(name) for name in names}, "what is frozen there is frozen here"
    for step, micro_batch in enumerate(start.inputs):
        record = train_step(
            engine,
            [micro_batch],
            clips,
            partial(global_loss, options=LOSS, world=World()),
            seed=0,
            step=step,
            learning_rate_factor=1.0,
        )
        assert record.terms.mean.item() == pytest.approx(golden[f"{optimizer}/loss"][step], rel=1e-10)
        now = engine.module.state_dict()
        for what, tensors, listed in (
            ("gradient", gradients.found, names),
            ("parameters", now, names),
            ("running_statistics", now, statistics),
        ):
            expected = golden[f"{optimizer}/{what}"][step]
            # A projection is a sum of both signs: its rounding is that of the tensor's norm. One running mean
            # is 0 but for rounding, since what it averages comes from a BatchNorm; deviations are near 1.
            allowed = 1e-10 * np.maximum(np.abs(expected), expected[:, :1])
            allowed += 1e-12 * (what == "running_statistics")
            difference = np.abs(figures(tensors, listed, seed) - expected)
            assert (difference <= allowed).all(), (what, step, (difference / allowed).max())
