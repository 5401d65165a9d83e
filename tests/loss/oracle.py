"""The loss straight from the formulas, whole tensors and loops over pairs: slow and obvious, one process only."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from cacl.loss import LossOptions
from cacl.types import ClipLabels, Embeddings


def oracle(embeddings: Embeddings, clips: ClipLabels, options: LossOptions, step: int = 0) -> torch.Tensor:
    """The mean over valid clips, with gradient."""
    scalars = embeddings.scalars
    scale = scalars["logit_scale"].exp() if options.learn_temperature else 1 / options.temperature
    targets = embeddings.target
    views = [(embeddings.image, embeddings.audio)]
    if targets is not None:
        views = [(embeddings.image, targets.audio), (targets.image, embeddings.audio)]
    total = torch.zeros((), dtype=embeddings.image.dtype)
    for maps, audio in views:
        score, extra, scale_left = SIMILARITY[options.similarity.name](
            maps, audio, clips, scale, options.similarity
        )
        positive, negative = weights(clips, score.detach(), options.positives, step)
        if options.direction in ("image-to-audio", "both"):
            for i in range(len(score)):
                row = torch.cat([score[i], extra[i]])
                nothing, one = torch.zeros(len(extra[i])).double(), torch.ones(len(extra[i])).double()
                near, far = torch.cat([positive[i], nothing]), torch.cat([negative[i], one * clips.valid[i]])
                total = total + one_loss(row, near, far, scale_left, scalars, options.objective)
        if options.direction in ("audio-to-image", "both"):
            for j in range(len(score)):
                total = total + one_loss(
                    score[:, j], positive[:, j], negative[:, j], scale_left, scalars, options.objective
                )
    return total / clips.valid.sum()


def cosines(maps, audio):
    """[N, H, P, N], the tensor that public code builds."""
    return torch.einsum("nhpd,mhd->nhpm", maps, audio)


def mean(maps, audio, clips, scale, options):
    return cosines(maps, audio).mean((1, 2)), none(maps), scale


def maximum(maps, audio, clips, scale, options):
    return cosines(maps, audio).max(2).values.mean(1), none(maps), scale


def log_sum_exp(maps, audio, clips, scale, options):
    k = options.sharpness
    return ((k * cosines(maps, audio)).exp().mean(2).log() / k).mean(1), none(maps), scale


def attention(maps, audio, clips, scale, options):
    first, second = (scale * cosines(maps, audio)).exp().unbind(1)
    first = first * clips.valid
    both = first / first.sum(2, keepdim=True) * second / second.sum(1, keepdim=True)
    return both.sum(1).clamp(min=1e-300).log(), none(maps), 1.0


def tri_map(maps, audio, clips, scale, options):
    cosine = cosines(maps, audio)[:, 0]
    m = torch.sigmoid((cosine - options.positive_threshold) / options.softness)
    own = torch.stack([cosine[i, :, i] for i in range(len(cosine))])
    quiet = 1 - torch.sigmoid((own - options.negative_threshold) / options.softness)
    extra = [(quiet * own).sum(1) / quiet.sum(1)]
    score = (m * cosine).sum(1) / m.sum(1)
    if options.diagonal == "times-minus-99":
        extra.append(-99 * score.diagonal())
    return score, torch.stack(extra, 1), scale


SIMILARITY = {
    "mean": mean, "max": maximum, "log-sum-exp": log_sum_exp, "attention": attention, "tri-map": tri_map,
}  # fmt: skip


def none(maps):
    return torch.zeros(len(maps), 0, dtype=maps.dtype)


def weights(clips: ClipLabels, score: torch.Tensor, options, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    n = len(score)
    positive, negative = torch.zeros(n, n).double(), torch.zeros(n, n).double()
    for i in range(n):
        for j in range(n):
            if clips.valid[i] and clips.valid[j]:
                near, far = POSITIVE[options.name](clips, i, j, score, options, step)
                positive[i, j], negative[i, j] = float(near), float(far)
    return positive, negative


def same(clips, i, j):
    return i == j or (clips.label[i] >= 0 and clips.label[i] == clips.label[j])


def soft_overlap(clips, i, j, score, options, step):
    overlap = 1.0 if i == j else float(clips.soft[i] @ clips.soft[j])
    return overlap, 1 - overlap


def confidence_weighted(clips, i, j, score, options, step):
    weight = 1.0 if i == j else float(clips.confidence[i] * clips.confidence[j])
    return (weight if same(clips, i, j) else 0), not same(clips, i, j)


def confident_above(clips, i, j, threshold):
    sure = i == j or min(clips.confidence[i], clips.confidence[j]) >= threshold
    return same(clips, i, j) and sure, not same(clips, i, j)


def curriculum(clips, i, j, score, options, step):
    done = min(step / options.steps, 1)
    return confident_above(clips, i, j, options.start * (1 - done) + options.end * done)


def false_negatives(clips, i, j, score, options, step):
    others = sorted(
        (float(score[i, k]) for k in range(len(score)) if k != i and clips.valid[k]), reverse=True
    )
    last = others[: options.top][-1] if others else math.inf
    suspected = i != j and score[i, j] >= last and score[i, j] > options.above and step >= options.from_step
    return i == j or (suspected and options.mode == "attract"), i != j and not suspected


POSITIVE = {
    "own-clip": lambda clips, i, j, *_: (i == j, i != j),
    "same-class": lambda clips, i, j, *_: (same(clips, i, j), not same(clips, i, j)),
    "soft-overlap": soft_overlap,
    "confidence-weighted": confidence_weighted,
    "confident": lambda clips, i, j, _, options, __: confident_above(clips, i, j, options.threshold),
    "curriculum": curriculum,
    "false-negatives": false_negatives,
}


def one_loss(score, positive, negative, scale, scalars, options) -> torch.Tensor:
    """One row's or column's loss; 0 without contrast."""
    if positive.sum() == 0 or negative.sum() == 0:
        return torch.zeros((), dtype=score.dtype)
    kept = positive + negative > 0
    score, positive, negative = score[kept], positive[kept], negative[kept]
    logits = score * scale
    match options.name:
        case "contrast":
            near, far = (positive * logits).sum() / positive.sum(), (negative * logits).sum() / negative.sum()
            return -torch.log(near.exp() / (near.exp() + far.exp()))
        case "infonce":
            return -torch.log((positive * logits.exp()).sum() / ((positive + negative) * logits.exp()).sum())
        case "margin-nce":
            moved = ((score - options.margin * positive) * scale).exp()
            return -torch.log((positive * moved).sum() / ((positive + negative) * moved).sum())
        case "supcon":
            shares = logits.exp() / ((positive + negative) * logits.exp()).sum()
            if options.average == "out":
                return -(positive * shares.log()).sum() / positive.sum()
            return -torch.log((positive * shares).sum() / positive.sum())
        case "sigmoid":
            z = logits + scalars["bias"]
            return -(positive * F.logsigmoid(z) + negative * F.logsigmoid(-z)).sum()
    raise AssertionError(options.name)
