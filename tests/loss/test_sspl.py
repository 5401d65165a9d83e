"""SSPL behind the same door: its formula, its stopped gradients, and the predictor that the model owns."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cacl.loss import LossOptions, global_loss
from cacl.loss.positives import OwnClip
from cacl.loss.sspl import Predictor, Sspl
from cacl.world import World
from tests.helpers.gradients import gradient_of
from tests.helpers.ranks import run_ranks
from tests.loss.batches import embed, random_clips, random_parameters, take

OPTIONS = LossOptions(positives=OwnClip(), objective=Sspl(attention_temperature=0.5))
N, CHANNELS = 6, 5


def predictor() -> Predictor:
    torch.manual_seed(0)
    head = OPTIONS.head(CHANNELS)
    assert isinstance(head, Predictor)
    return head.double().eval()


def step(world: World) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Per-clip losses and the averaged gradients of the predictor, on this rank's rows."""
    n = N // world.size
    rows = slice(world.rank * n, (world.rank + 1) * n)
    maps, audio, _ = random_parameters(N, channels=CHANNELS)
    head = predictor()
    clips = take(random_clips(N, invalid=(1,)), rows)
    terms = global_loss(head(embed(maps[rows], audio[rows])), clips, OPTIONS, world)
    terms.loss.backward()
    gradients = {name: world.sum(gradient_of(p)) / world.size for name, p in head.named_parameters()}
    return world.gather_rows(terms.per_clip.detach()), gradients


def test_it_is_its_formula_and_what_is_predicted_has_no_gradient() -> None:
    maps, audio, _ = random_parameters(N, channels=CHANNELS)
    head, embeddings = predictor(), embed(maps, audio)
    embeddings.image.requires_grad_()
    embeddings.audio.requires_grad_()
    terms = global_loss(head(embeddings), random_clips(N), OPTIONS, World())
    expected = []
    for i in range(N):
        v, a = embeddings.image[i, 0], embeddings.audio[i, 0]
        attention = (v @ a / 0.5).exp() / (v @ a / 0.5).exp().sum()
        image = sum(weight * vector for weight, vector in zip(attention, v, strict=True))
        first = F.cosine_similarity(head.layers(image[None])[0], a.detach(), dim=0)
        second = F.cosine_similarity(head.layers(a[None])[0], image.detach(), dim=0)
        expected.append(-(first + second) / 2)
    torch.testing.assert_close(terms.per_clip, torch.stack(expected))
    found = torch.autograd.grad(terms.loss, [embeddings.image, embeddings.audio])
    wanted = torch.autograd.grad(torch.stack(expected).mean(), [embeddings.image, embeddings.audio])
    torch.testing.assert_close(found, wanted)


def test_two_ranks_are_one_process() -> None:
    expected = step(World())
    assert expected[0][1] == 0, "the clip that is not valid adds nothing"
    for found in run_ranks(2, step):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
