"""DeepSpeed's ZeRO 0 to 3 take the same steps as DDP."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from cacl.errors import UserError
from cacl.loss import LossOptions, global_loss
from cacl.model.localizer import Localizer
from cacl.options import parse
from cacl.training.ema import Ema
from cacl.training.engines import DDP, DeepSpeed
from cacl.training.engines.deepspeed import merge, read_config
from cacl.training.optimization import SGD, AdamW
from cacl.training.step import train_step
from cacl.training.validation import retrieval
from cacl.types import Batch, ClipLabels, Embeddings
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import train_rank, write_recipe
from tests.training.steps import CLIPS, LOSS, MICRO, MODEL, inputs, rows_of


def curve(world, zero, precision="float32", averaged=False, steps=4):
    """Losses, gradient norms, final parameters and their moving average; zero None is DDP."""
    loss = parse(LossOptions, LOSS, "test")
    model = Localizer(MODEL, loss.scalars(), seed=3).train()
    options = DDP() if zero is None else DeepSpeed(zero=zero)
    engine = options.build(model, AdamW(learning_rate=1e-2), world, precision, 1.0)
    average = Ema(engine.module, 0.9) if averaged else None
    images, spectrograms, clips = inputs()
    share = CLIPS // world.size
    rows = slice(world.rank * share, (world.rank + 1) * share)
    pieces = zip(images[rows].float().split(MICRO), spectrograms[rows].float().split(MICRO), strict=True)
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
            learning_rate_factor=(1.0, 0.5, 0.25, 1.0)[step],
            average=average,
        )
        seen.append((record.terms.mean.item(), float(record.gradient_norm)))
    return seen, engine.state_files(), average.state_dict() if average else {}


def close(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_zero_takes_the_steps_of_ddp(zero):
    expected, files, _ = run_ranks(2, curve, None)[0]
    seen, own_files, _ = run_ranks(2, curve, zero)[0]
    # float32: sums over ranks and buckets are added in another order; Adam divides small gradients by their size.
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected), rtol=1e-4, atol=1e-5)
    close(own_files["model.safetensors"], files["model.safetensors"])


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_zero_makes_targets_and_averages_of_ddp(zero):
    expected, _, average = run_ranks(2, curve, None, "float32", True)[0]
    seen, _, own_average = run_ranks(2, curve, zero, "float32", True)[0]
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert any("running_var" in name for name in average)
    close(own_average, average)


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_zero_in_bfloat16_takes_the_steps_of_ddp_in_bfloat16(zero):
    expected, _, _ = run_ranks(2, curve, None, "bfloat16")[0]
    seen, own_files, _ = run_ranks(2, curve, zero, "bfloat16")[0]
    full, _, _ = run_ranks(2, curve, None)[0]
    losses, own_losses = torch.tensor(expected)[:, 0], torch.tensor(seen)[:, 0]
    assert not torch.equal(losses, torch.tensor(full)[:, 0]), "bfloat16 is at work"
    # Gradients travel in bfloat16, of eight bits, and Adam divides by their size: the first step alone is close.
    torch.testing.assert_close(own_losses[0], losses[0], rtol=1e-3, atol=0)
    torch.testing.assert_close(own_losses, losses, rtol=0.05, atol=0)
    assert all(v.dtype != torch.bfloat16 for v in own_files["model.safetensors"].values())


def two_views(world, zero):
    """Losses, gradient norms and final parameters of SSPL, one clip masked; zero None is DDP."""
    values = {"hidden": 16, "projection": 12, "bottleneck": 4}
    loss = parse(
        LossOptions, {"positives": {"name": "own-clip"}, "objective": {"name": "sspl", **values}}, "test"
    )
    model = Localizer(MODEL, seed=3, head=loss.head).train()
    engine = (DDP() if zero is None else DeepSpeed(zero=zero)).build(model, SGD(learning_rate=1e-3), world)
    images, spectrograms, clips = inputs()
    share = CLIPS // world.size
    rows = slice(world.rank * share, (world.rank + 1) * share)
    both = torch.stack([images, images.flip(3) + 0.1], 1)[rows].float()
    own = replace(rows_of(clips, rows), valid=clips.valid[rows] & (clips.index[rows] != 1))
    seen = []
    for step in range(3):
        record = train_step(
            engine,
            list(zip(both.split(3), spectrograms[rows].float().split(3), strict=True)),
            own,
            lambda embeddings, own: global_loss(embeddings, own, loss, world),
            seed=0,
            step=step,
            learning_rate_factor=1.0,
        )
        seen.append((record.terms.mean.item(), float(record.gradient_norm)))
    return seen, engine.state_files()


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_zero_takes_the_steps_of_ddp_with_two_views(zero):
    expected, files = run_ranks(2, two_views, None)[0]
    seen, own_files = run_ranks(2, two_views, zero)[0]
    # float32, as above. SGD and a small rate: gradients are steep, and Adam steps even along mere rounding. The
    # norm of the third step differs by 1.3e-4 of itself on an AMD EPYC, whose sums are in another order.
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected), rtol=5e-4, atol=1e-5)
    close(own_files["model.safetensors"], files["model.safetensors"])


def validate(world, zero):
    """Embed three batches on rank 0 and two on rank 1, as a split that does not divide does."""
    loss = parse(LossOptions, LOSS, "test")
    model = Localizer(MODEL, loss.scalars(), seed=3).train()
    engine = DeepSpeed(zero=zero).build(model, AdamW(), world)
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (10, 3, 32, 32), generator=draw, dtype=torch.uint8)
    spectrograms = torch.randn(10, 8000, generator=draw)
    mine = torch.arange(10)[: 6 if world.is_main else 4].split(2)
    batches = (Batch(i, images[i], spectrograms[i], torch.ones(2, dtype=torch.bool)) for i in mine)

    def join(index: torch.Tensor, valid: torch.Tensor) -> ClipLabels:
        return ClipLabels(index, index, torch.ones(len(index)), valid)

    apart = []

    def embed_and_hear(batch: Batch) -> Embeddings:
        embeddings = embed(batch)
        apart.append(float((engine.hear_by(engine.module, batch.waveforms) - embeddings.audio).abs().max()))
        return embeddings

    with engine.evaluating() as embed:
        assert not engine.module.training
        found = retrieval(embed_and_hear, batches, join, loss, world)
    assert engine.module.training
    return found, max(apart)


def test_a_validation_split_that_does_not_divide_hangs_no_rank_of_zero_3():
    """Sounds alone, as θ is fitted to them, are heard as they are beside their images."""
    whole, parted = run_ranks(2, validate, 0), run_ranks(2, validate, 3)
    assert whole[0][0]["clips"] == 10 and parted == whole
    assert whole[0][1] < 1e-6


def test_zero_3_has_no_model_to_average(tmp_path, data):
    recipe = write_recipe(tmp_path, data)
    words = ["--engine", "{name: deepspeed, zero: 3}", "--training.ema-decay", "0.9"]
    with pytest.raises(AssertionError, match=r"training\.ema_decay: .* use engine\.zero 2"):
        run_ranks(2, train_rank, str(recipe), str(tmp_path / "run"), {"overrides": words})
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_the_users_json_is_merged_and_contradictions_are_refused(tmp_path):
    path = tmp_path / "zero.json"
    path.write_text(
        json.dumps({"zero_optimization": {"reduce_bucket_size": 7}, "wall_clock_breakdown": True})
    )
    derived = {"zero_optimization": {"stage": 2}, "gradient_clipping": 0.0}
    together = merge(derived, read_config(str(path)), str(path))
    assert together["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 7}
    with pytest.raises(UserError, match=r"zero_optimization\.stage is 3, the recipe makes it 2"):
        merge(derived, {"zero_optimization": {"stage": 3}}, "x.json")
    with pytest.raises(UserError, match="optimizer is the recipe's to say"):
        merge(derived, {"optimizer": {}}, "x.json")
    path.write_text("{")
    with pytest.raises(UserError, match=r"engine\.config: .*give a JSON file"):
        read_config(str(path))
