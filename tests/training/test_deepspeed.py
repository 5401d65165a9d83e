"""DeepSpeed's ZeRO 0 to 3 take the same steps as DDP."""

from __future__ import annotations

import json

import pytest
import torch

from cacl.engines import DDP, DeepSpeed
from cacl.engines.deepspeed import merged, read_config
from cacl.errors import UserError
from cacl.loss import LossOptions, global_loss
from cacl.model import Localizer
from cacl.optimization import AdamW
from cacl.options import parse
from cacl.step import train_step
from tests.ranks import run_ranks
from tests.training.test_step import CLIPS, LOSS, MICRO, MODEL, inputs, rows_of


def curve(world, zero, folder=None, steps=4):
    """Losses, gradient norms and final parameters in float32; zero None is DDP."""
    loss = parse(LossOptions, LOSS, "test")
    model = Localizer(MODEL, loss.scalars(), seed=3).train()
    options = DDP() if zero is None else DeepSpeed(zero=zero)
    engine = options.build(model, AdamW(learning_rate=1e-2), world, "float32", 1.0)
    images, sounds, clips = inputs()
    share = CLIPS // world.size
    rows = slice(world.rank * share, (world.rank + 1) * share)
    pieces = zip(images[rows].float().split(MICRO), sounds[rows].float().split(MICRO), strict=True)
    micro_batches = list(pieces)
    seen = []
    for step in range(steps):
        record = train_step(
            engine,
            micro_batches,
            rows_of(clips, rows),
            lambda embeddings, own: global_loss(embeddings, own, loss, world),
            seed=0,
            step=step,
            learning_rate_factor=1.0,
        )
        seen.append((record.terms.mean.item(), float(record.gradient_norm)))
    return seen, engine.state_files()


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_zero_takes_the_steps_of_ddp(zero):
    expected, files = run_ranks(2, curve, None)[0]
    seen, own_files = run_ranks(2, curve, zero)[0]
    # float32: sums over ranks and buckets are added in another order; Adam divides small gradients by their size.
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected), rtol=1e-4, atol=1e-5)
    model, own_model = files["model.safetensors"], own_files["model.safetensors"]
    assert model.keys() == own_model.keys()
    for name, value in model.items():
        torch.testing.assert_close(own_model[name], value, rtol=1e-3, atol=2e-4, msg=name)


def test_the_users_json_is_merged_and_contradictions_are_refused(tmp_path):
    path = tmp_path / "zero.json"
    path.write_text(
        json.dumps({"zero_optimization": {"reduce_bucket_size": 7}, "wall_clock_breakdown": True})
    )
    derived = {"zero_optimization": {"stage": 2}, "gradient_clipping": 0.0}
    together = merged(derived, read_config(str(path)), str(path))
    assert together["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 7}
    with pytest.raises(UserError, match=r"zero_optimization\.stage is 3, the recipe makes it 2"):
        merged(derived, {"zero_optimization": {"stage": 3}}, "x.json")
    with pytest.raises(UserError, match="optimizer is the recipe's to say"):
        merged(derived, {"optimizer": {}}, "x.json")
    path.write_text("{")
    with pytest.raises(UserError, match=r"engine\.config: .*give a JSON file"):
        read_config(str(path))
