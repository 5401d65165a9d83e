"""The trainer leaves what a trainer written out by hand in plain PyTorch leaves: every parameter, statistic,
average, and number in the log, on any number of ranks, with one micro-batch or several, resumed or not.

The trainer by hand calls neither the step, the loss, the schedules, the optimizers and the moving average, nor
the model's own forward.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cacl.errors import UserError
from cacl.loss import LossOptions
from cacl.loss.positives import Curriculum
from cacl.loss.similarities import MaxSimilarity
from cacl.model import audio, image
from cacl.model.localizer import Localizer, ModelOptions
from cacl.model.spectrograms import LogMel, log_mel
from cacl.runs import checkpoint
from cacl.runs.directory import Run
from cacl.training.ema import Ema, TargetOptions
from cacl.training.engines import DDP, Engine
from cacl.training.optimization import SGD, AdamW, Constant, Cosine
from cacl.training.options import TrainingOptions
from cacl.training.trainer import Plan, Training, newest_checkpoint, resume, train
from cacl.types import Batch, ClipLabels
from cacl.world import World
from tests.helpers.gradients import gradient_of
from tests.helpers.ranks import run_ranks
from tests.training.events import numbers_in

CLIPS, STEPS, TOTAL, PER_EPOCH = 12, 4, 6, 3
CLIPPED_TO = 0.005
SEED = 13
MODEL = ModelOptions(
    image=image.SmallCnn(channels=8, norm="batch"),
    audio=audio.SmallCnn(channels=16, norm="batch"),
    features=LogMel(bands=32, rate=8000, hop=0.02),
    dimension=6,
    heads=2,
    image_dropout=0.5,
)
LOSS = LossOptions(
    similarity=MaxSimilarity(),
    positives=Curriculum(start=0.9, end=0.2, steps=4),
    temperature=10.0005,
    learn_temperature=True,
    minimum_temperature=10.0,
)
TRAINING = TrainingOptions(
    global_batch_size=CLIPS, seed=SEED, clip_gradient_norm=CLIPPED_TO, ema_decay=0.8, checkpoint_every=2
)
ADAMW = AdamW(learning_rate=0.02, weight_decay=0.5, beta1=0.8, beta2=0.95)
MOMENTUM = SGD(learning_rate=5.0, weight_decay=0.01, momentum=0.7)
OURS, SLAVCS = TargetOptions(), TargetOptions(statistics="batch", dropout=True)
IDENTITY = {"data": "these shards", "labels": "these labels"}

# Of each of 40 clips, by its index. A clip whose label is unknown is a class of its own.
LABEL = torch.tensor([0, 1, 2, -1] * 10)
CONFIDENCE = torch.tensor([1.0, 0.8, 0.6, 0.4, 1.0] * 8)


def global_batch(step: int) -> Batch:
    """Twelve of the clips, of which one could not be decoded. In float64, unlike a loader's."""
    draw = torch.Generator().manual_seed(100 + step)
    index = torch.randperm(len(LABEL), generator=draw)[:CLIPS]
    images = torch.randint(0, 256, (CLIPS, 3, 48, 48), generator=draw, dtype=torch.uint8)
    loudness = torch.logspace(-3, 0, CLIPS).double()[:, None]
    waveforms = torch.randn(CLIPS, 4000, generator=draw, dtype=torch.float64) * loudness
    valid = torch.arange(CLIPS) != 5 + step
    return Batch(index, images * valid[:, None, None, None], waveforms * valid[:, None], valid)


# -- by hand ----------------------------------------------------------------------------------------------------


def affine(head: nn.Module) -> tuple[Tensor, Tensor]:
    """A head's weight and bias."""
    return head.get_parameter("weight"), head.get_parameter("bias")


def embed(
    model: Localizer, images: Tensor, waveforms: Tensor, keys: range | None = None
) -> tuple[Tensor, Tensor]:
    """Maps [n, H, P, D] and sounds [n, H, D], from what a loader delivers; dropout's masks are drawn from `keys`."""
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    mels = [log_mel(waveform[None], 8000, 32, 0.02) for waveform in waveforms]
    spectrograms = torch.stack([(mel - mel.mean()) / (mel.std() + 1e-3) for mel in mels])
    seen = model.image_trunk.body((images.double() / 255 - mean) / std)
    heard = model.audio_trunk.body(spectrograms)
    if keys is not None:  # dropout 0.5
        draws = [torch.Generator().manual_seed(key) for key in keys]
        kept = [torch.empty(seen.shape[1:], dtype=torch.bool).bernoulli_(0.5, generator=d) for d in draws]
        seen = seen * torch.stack(kept) / 0.5
    of_images = [functional.conv2d(seen, *affine(head)).flatten(2).mT for head in model.image_heads]
    of_audio = [functional.linear(heard, *affine(head)) for head in model.audio_heads]
    maps, audio = torch.stack(of_images, 1), torch.stack(of_audio, 1)
    return maps / maps.norm(dim=-1, keepdim=True), audio / audio.norm(dim=-1, keepdim=True)


def loss_of(
    views: list[tuple[Tensor, Tensor]], batch: Batch, scale: Tensor, step: int
) -> tuple[Tensor, dict[str, float]]:
    """Mean over the valid clips of `log(1 + exp(mean of negatives - mean of positives))`, summed over views."""
    label, confidence, valid = LABEL[batch.index], CONFIDENCE[batch.index], batch.valid
    threshold = 0.9 + (0.2 - 0.9) * step / 4
    total, near, far = torch.zeros(()).double(), [], []
    for maps, heard in views:
        cosine = torch.einsum("nhpd,mhd->nhpm", maps, heard).amax(2).mean(1)
        for i in torch.arange(CLIPS)[valid].tolist():
            own = torch.arange(CLIPS) == i
            same = own | ((label == label[i]) & (label[i] >= 0))
            sure = own | ((confidence >= threshold) & (confidence[i] >= threshold))
            positives, negatives = cosine[i, same & sure & valid], cosine[i, ~same & valid]
            total = total + (1 + (scale * (negatives.mean() - positives.mean())).exp()).log()
            near += positives.tolist()
            far += negatives.tolist()
    known = [n for n in range(CLIPS) if valid[n] and label[n] >= 0]
    return total / valid.sum(), {
        "valid": float(valid.sum()),
        "same_class_pairs": float(sum(label[n] == label[m] for n in known for m in known if n < m)),
        "rows_without_positives": 0.0,
        "rows_without_negatives": 0.0,
        "positive_similarity": sum(near) / len(near),
        "negative_similarity": sum(far) / len(far),
        "temperature": float(1 / scale.detach()),
    }


def rate_factor(optimizer: AdamW | SGD, step: int) -> float:
    """A cosine down to 0.1 for AdamW, and none for SGD; two steps of warm-up each, of a third and two thirds."""
    if step < 2:
        return (step + 1) / 3
    return (
        1.0 if optimizer is MOMENTUM else 0.1 + 0.9 * (1 + math.cos(math.pi * (step - 2) / (TOTAL - 2))) / 2
    )


@dataclass
class Trained:
    """What is left of a training."""

    model: dict[str, Tensor]
    average: dict[str, Tensor]
    lines: list[dict[str, Any]]


def keys_of(places: range, *key: int) -> range:
    """What the masks of the clips at these places of the global batch are drawn from."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    base = int.from_bytes(digest, "big") >> 1
    return range(base + places.start, base + places.stop)


def norms_of(model: Localizer) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def train_by_hand(optimizer: AdamW | SGD, micro: int, target: TargetOptions) -> Trained:
    """Take every step with one graph of the whole global batch, cut into micro-batches of `micro` clips."""
    model = Localizer(MODEL, {"logit_scale": -math.log(10.0005)}, seed=SEED).double().train()
    average = copy.deepcopy(model).eval()
    logit_scale, lines, clamped = model.scalars["logit_scale"], [], 0
    state: dict[nn.Parameter, list[Any]] = defaultdict(lambda: [0.0, 0.0])
    moments: dict[nn.Module, list[Tensor]] = defaultdict(list)
    by_batch = norms_of(model) + (norms_of(average) if target.statistics == "batch" else [])
    for batch_norm in by_batch:
        batch_norm.train().momentum = 0.0  # the running statistics are moved below
        batch_norm.register_forward_pre_hook(lambda norm, inputs: moments[norm].append(inputs[0].detach()))
    for step in range(STEPS):
        batch, parts, targets = global_batch(step), [], []
        moments.clear()
        pieces = zip(batch.images.split(micro), batch.waveforms.split(micro), strict=True)
        for number, piece in enumerate(pieces):
            places = range(number * micro, (number + 1) * micro)
            parts.append(embed(model, *piece, keys_of(places, SEED, step)))
            with torch.no_grad():
                dropping = keys_of(places, SEED, step, -1) if target.dropout else None
                targets.append(embed(average, *piece, dropping))
        maps, audio = (torch.cat(part) for part in zip(*parts, strict=True))
        target_maps, target_audio = (torch.cat(part) for part in zip(*targets, strict=True))
        views = [(maps, target_audio), (target_maps, audio)]
        loss, counts = loss_of(views, batch, logit_scale[0].exp(), step)
        model.zero_grad()
        loss.backward()

        norm = math.sqrt(sum(float(gradient_of(p).square().sum()) for p in model.parameters()))
        assert norm > CLIPPED_TO, "clipping is at work"
        rate = optimizer.learning_rate * rate_factor(optimizer, step)
        line = {"step": step + 1, "epoch": step // PER_EPOCH, "loss": loss.item(), "gradient_norm": norm}
        lines.append({**line, "learning_rate": rate, "logit_scale": logit_scale.item(), **counts})
        with torch.no_grad():
            for p in model.parameters():
                gradient = gradient_of(p) * CLIPPED_TO / (norm + 1e-6)
                decay = optimizer.weight_decay if p.ndim >= 2 else 0.0
                first, second = state[p]
                if optimizer is ADAMW:
                    first = 0.8 * first + 0.2 * gradient
                    second = 0.95 * second + 0.05 * gradient.square()
                    p.sub_(rate * decay * p)
                    deviation = (second / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8
                    p.sub_(rate * first / (1 - 0.8 ** (step + 1)) / deviation)
                else:
                    first = 0.7 * first + gradient + decay * p
                    p.sub_(rate * first)
                state[p] = [first, second]
            for module, inputs in moments.items():
                means = sum(x.mean((0, 2, 3)) for x in inputs) / len(inputs)
                variances = sum(x.var((0, 2, 3)) for x in inputs) / len(inputs)
                module.get_buffer("running_mean").mul_(0.9).add_(0.1 * means)
                module.get_buffer("running_var").mul_(0.9).add_(0.1 * variances)
                module.get_buffer("num_batches_tracked").fill_(step + 1)
            for mean, online in zip(average.parameters(), model.parameters(), strict=True):
                mean.copy_(0.8 * mean + 0.2 * online)
            if target.statistics == "running":
                for copied, buffer in zip(average.buffers(), model.buffers(), strict=True):
                    copied.copy_(buffer)
            clamped += bool(logit_scale > -math.log(10))  # the average has taken it as it was
            logit_scale.clamp_(max=-math.log(10))
        if step % 2:
            lines.append({"step": step + 1, "recall_at_1": figure_by_hand(model)})
    assert clamped, "the temperature reaches its bound"
    return Trained(model.state_dict(), average.state_dict(), lines)


def figure_by_hand(model: Localizer) -> float:
    """Some figure of the model in eval mode."""
    batch = global_batch(99)
    with torch.no_grad():
        maps, audio = embed(model.eval(), batch.images, batch.waveforms)
    model.train()
    return float((maps.mean(2) * audio).sum())


# -- as it is ---------------------------------------------------------------------------------------------------


def engine_of(world: World, optimizer: AdamW | SGD) -> Engine:
    model = Localizer(MODEL, LOSS.scalars(), seed=TRAINING.seed).double().train()
    return DDP().build(model, optimizer, world, "float32", TRAINING.clip_gradient_norm)


def train_part(
    world: World,
    folder: str,
    optimizer: AdamW | SGD,
    micro: int,
    last_step: int,
    target: TargetOptions = OURS,
    stop_at: int | None = None,
    log: tuple[Literal["tensorboard", "wandb"], ...] = (),
) -> str:
    """Be one rank of a training, which continues where the run has a checkpoint; return how it ended.

    In step `stop_at`, and in no other, the last rank is told to stop.
    """
    steps = iter(range(STEPS + 1))  # the first question comes before the first step
    run, engine = Run(folder), engine_of(world, optimizer)
    assert TRAINING.ema_decay is not None
    average = Ema(engine.module, TRAINING.ema_decay, target)
    found = newest_checkpoint(run, world)
    first_step = resume(engine, average, found, IDENTITY) if found else 0
    rows = slice(world.rank * CLIPS // world.size, (world.rank + 1) * CLIPS // world.size)

    def share(batch: Batch) -> Batch:
        return Batch(batch.index[rows], batch.images[rows], batch.waveforms[rows], batch.valid[rows])

    def measure(step: int, stop: Callable[[], int]) -> dict[str, float]:
        with engine.evaluating() as embed_batch, torch.no_grad():
            embeddings = embed_batch(global_batch(99))
        return {"recall_at_1": float((embeddings.image.mean(2) * embeddings.audio).sum())}

    return train(
        Training(
            engine=engine,
            average=average,
            batches=(share(global_batch(step)) for step in range(first_step, TOTAL)),
            join_labels=lambda index, valid: ClipLabels(index, LABEL[index], CONFIDENCE[index], valid),
            loss=LOSS,
            options=replace(TRAINING, micro_batch_size=micro, log=log),
            schedule=Constant(warmup_steps=2) if optimizer == MOMENTUM else Cosine(warmup_steps=2, floor=0.1),
            plan=Plan(PER_EPOCH, TOTAL, last_step, first_step),
            run=run,
            validate=measure,
            stop_requested=lambda: next(steps) == stop_at and world.rank == world.size - 1,
            identity=IDENTITY,
        )
    )


CASES = {
    "one micro-batch": (ADAMW, 12, {4: 1}, OURS),
    "three micro-batches": (ADAMW, 4, {4: 1}, OURS),
    "two ranks": (ADAMW, 6, {4: 2}, OURS),
    "two ranks with two micro-batches each, continued on one with four": (ADAMW, 3, {2: 2, 4: 1}, OURS),
    "SGD, continued": (MOMENTUM, 6, {2: 1, 4: 1}, OURS),
    "SLAVC's target": (ADAMW, 12, {4: 1}, SLAVCS),
    "SLAVC's target, two ranks with two micro-batches each, continued": (ADAMW, 3, {2: 2, 4: 1}, SLAVCS),
    "target with dropout alone": (MOMENTUM, 4, {4: 1}, TargetOptions(dropout=True)),
}


@pytest.mark.parametrize(("optimizer", "micro", "parts", "target"), CASES.values(), ids=CASES.keys())
def test_a_training_is_what_a_trainer_written_out_by_hand_makes_of_it(
    tmp_path, optimizer, micro, parts, target
):
    """`parts`: up to which step on how many ranks."""
    for last_step, size in parts.items():
        words = (str(tmp_path), optimizer, micro, last_step, target)
        ended = run_ranks(size, train_part, *words) if size > 1 else [train_part(World(), *words)]
        assert ended == ["finished"] * size
    expected = train_by_hand(optimizer, micro, target)
    folder = tmp_path / "checkpoints" / "step-4"
    for file, state in (("model", expected.model), ("ema", expected.average)):
        found = checkpoint.read_tensors(folder / f"{file}.safetensors")
        # float64; four steps of Adam, which divides small gradients by their size, amplify its rounding.
        torch.testing.assert_close(found, state, rtol=1e-7, atol=1e-9)
    lines = [{**line, **(line.get("validation") or {})} for line in Run(tmp_path).records()]
    for line, by_hand in zip(lines, expected.lines, strict=True):
        assert ("loss" in line) == ("loss" in by_hand), "validation comes after the steps that it measures"
        assert {name: line[name] for name in by_hand} == pytest.approx(by_hand, rel=1e-8), line["step"]
    of_steps = [line for line in lines if "loss" in line]
    ranks = [next(size for last, size in parts.items() if line["step"] <= last) for line in of_steps]
    assert [line["world_size"] for line in of_steps] == ranks
    for size in set(ranks):
        (received,) = {line["exchanged_bytes"] for line in of_steps if line["world_size"] == size}
        assert (received > 0) == (size > 1), "a step's own bytes, the same in every step"
    for line in of_steps:  # clips of all ranks; the log rounds
        assert line["clips_per_second"] * line["step_seconds"] == pytest.approx(CLIPS, rel=0.01)
    state = checkpoint.read_state(folder)
    assert state["position"] == {"epoch": 1, "batch": 1} and state["identity"] == IDENTITY
    assert state["step"] == STEPS and state["world_size"] == ranks[-1]
    assert state["validation"] == {"recall_at_1": lines[-1]["recall_at_1"]}
    kept = [path.name for path in checkpoint.step_folders(tmp_path / "checkpoints")]
    assert kept == ["step-4", "step-2"], "one after every second step"


def test_a_checkpoint_of_other_data_or_labels_is_refused(tmp_path):
    train_part(World(), str(tmp_path), MOMENTUM, 12, 1)
    folder = tmp_path / "checkpoints" / "step-1"
    for name in IDENTITY:
        with pytest.raises(UserError, match=f"trained on another {name}") as refusal:
            resume(engine_of(World(), MOMENTUM), None, folder, {**IDENTITY, name: "others"})
        assert IDENTITY[name] in str(refusal.value)
    assert resume(engine_of(World(), MOMENTUM), None, folder, IDENTITY) == 1


@pytest.mark.parametrize(("stop_at", "last"), [(1, 2), (2, 2)], ids=["read a step later", "read at once"])
def test_one_rank_told_to_stop_in_one_step_alone_stops_all_after_the_same_step(tmp_path, stop_at, last):
    """A step is read one late, or where a checkpoint is due; the stop leaves a checkpoint and no validation."""
    assert run_ranks(2, train_part, str(tmp_path), MOMENTUM, 6, 4, OURS, stop_at) == ["stopped"] * 2
    assert [line["step"] for line in Run(tmp_path).records()] == list(range(1, last + 1))
    (folder,) = checkpoint.step_folders(tmp_path / "checkpoints")
    state = checkpoint.read_state(folder)
    assert state["step"] == last and state["validation"] is None


def test_another_log_gets_every_line_of_the_run(tmp_path):
    train_part(World(), str(tmp_path), MOMENTUM, 12, 2, log=("tensorboard",))
    shown = numbers_in(tmp_path / "tensorboard")
    *of_steps, measured = Run(tmp_path).records()
    assert shown[("validation/recall_at_1", 2)] == pytest.approx(measured["validation"]["recall_at_1"])
    assert [shown[("loss", line["step"])] for line in of_steps] == [
        pytest.approx(line["loss"]) for line in of_steps
    ]
