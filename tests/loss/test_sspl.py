"""SSPL behind the same door: its formula, its stopped gradients, its masks, and the head that the model owns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cacl.errors import UserError
from cacl.loss import LossOptions, global_loss
from cacl.loss.positives import OwnClip
from cacl.loss.sspl import MaskedBatchNorm, SimSiamHead, Sspl, attend
from cacl.types import Embeddings
from cacl.world import World
from tests.helpers.gradients import gradient_of
from tests.helpers.ranks import run_ranks
from tests.loss.batches import embed, random_clips, random_parameters, take

OPTIONS = LossOptions(positives=OwnClip(), objective=Sspl(hidden=12, projection=10, bottleneck=4))
N, CHANNELS = 6, 5
VALID = torch.tensor([True, False, True, True, True, True])


def head_of() -> SimSiamHead:
    torch.manual_seed(0)
    head = OPTIONS.head(CHANNELS)
    assert isinstance(head, SimSiamHead)
    for parameter in head.parameters():  # BatchNorm's own too
        nn.init.uniform_(parameter, -1, 1)
    return head.double()


def two_views() -> tuple[list[Tensor], Tensor]:
    """Raw maps [n, 1, P, D] of each view and sounds [n, 1, D]."""
    first, audio, _ = random_parameters(N, channels=CHANNELS)
    second, _, _ = random_parameters(N, channels=CHANNELS, seed=1)
    return [first, second], audio


def embedded(head: SimSiamHead, maps: list[Tensor], audio: Tensor, valid: Tensor | None) -> Embeddings:
    return head(embed(maps[0], audio), maps, valid)


def by_hand(head: SimSiamHead, maps: list[Tensor], audio: Tensor) -> Tensor:
    """The loss of each clip [n], every formula written out with torch's own layers."""
    vectors = []
    for view in maps:
        rows = []
        for places, sound in zip(view[:, 0], audio[:, 0], strict=True):
            cosine = torch.stack([F.cosine_similarity(place, sound, dim=0) for place in places])
            weights = (cosine - cosine.min()) / (cosine.max() - cosine.min() + 1e-10)
            rows.append(sum(weight * place for weight, place in zip(weights, places, strict=True)))
        vectors.append(torch.stack(rows))

    def norm(x: Tensor, layer: nn.Module) -> Tensor:
        assert isinstance(layer, MaskedBatchNorm)
        return F.batch_norm(x, None, None, layer.weight, layer.bias, training=True)

    first, n1, _, second, n2, _, third, n3 = head.projector
    z = [norm(third(norm(second(norm(first(x), n1).relu()), n2).relu()), n3) for x in vectors]
    narrow, n4, _, wide = head.predictor
    p = [wide(norm(narrow(x), n4).relu()) for x in z]
    return -(F.cosine_similarity(p[0], z[1].detach()) + F.cosine_similarity(p[1], z[0].detach())) / 2


def test_it_is_its_formula_and_what_is_predicted_has_no_gradient() -> None:
    maps, audio = two_views()
    leaves = [*(view.requires_grad_() for view in maps), audio.requires_grad_()]
    head = head_of()
    terms = global_loss(embedded(head, maps, audio, None), random_clips(N), OPTIONS, World())
    expected = by_hand(head, maps, audio)
    torch.testing.assert_close(terms.per_clip, expected)
    leaves += list(head.parameters())
    found = torch.autograd.grad(terms.loss, leaves)
    torch.testing.assert_close(found, torch.autograd.grad(expected.mean(), leaves))


def test_a_place_counts_by_its_length_and_the_least_alike_not_at_all() -> None:
    maps = torch.tensor([[[3.0, 0.0], [0.0, 5.0], [-2.0, 0.0]]])
    # Cosines with (1, 0) are 1, 0 and -1: weights 1, 1/2 and 0.
    torch.testing.assert_close(attend(maps, torch.tensor([[1.0, 0.0]])), torch.tensor([[3.0, 2.5]]))


def test_a_masked_clip_moves_no_value_gradient_or_statistic() -> None:
    """Promise 5, in the head's BatchNorm too: as if the batch had been without it."""
    results = []
    for change in (0.0, 7.0):
        maps, audio = two_views()
        maps = [view + change * (~VALID)[:, None, None, None] for view in maps]
        head, clips = head_of(), random_clips(N, invalid=(1,))
        terms = global_loss(embedded(head, maps, audio, VALID), clips, OPTIONS, World())
        terms.loss.backward()
        assert int(terms.logged["valid"]) == N - 1 and terms.per_clip[1] == 0
        results.append((terms.mean, [gradient_of(p) for p in head.parameters()], head.state_dict()))
    maps, audio = two_views()
    head, clips = head_of(), take(random_clips(N), VALID)
    without = embedded(head, [view[VALID] for view in maps], audio[VALID], None)
    terms = global_loss(without, clips, OPTIONS, World())
    terms.loss.backward()
    alone = (terms.mean, [gradient_of(p) for p in head.parameters()], head.state_dict())
    for mean, gradients, state in results:
        torch.testing.assert_close((mean, gradients), alone[:2])
        for name, value in state.items():
            if "num_batches" not in name:  # the trainer counts steps
                torch.testing.assert_close(value, alone[2][name], msg=name)


@pytest.mark.parametrize("affine", [True, False])
def test_without_masked_rows_it_is_torchs_batch_norm(affine) -> None:
    ours, torchs = MaskedBatchNorm(3, affine=affine).double(), nn.BatchNorm1d(3, affine=affine).double()
    for step in range(3):
        x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        torch.testing.assert_close(ours(x, torch.ones(7, dtype=torch.bool)), torchs(x))
    torch.testing.assert_close(
        [ours.running_mean, ours.running_var], [torchs.running_mean, torchs.running_var]
    )
    torch.testing.assert_close(ours.eval()(x, torch.zeros(7, dtype=torch.bool)), torchs.eval()(x))


@pytest.mark.parametrize("there", [0, 1])
def test_a_batch_of_masked_clips_is_finite(there) -> None:
    maps, audio = two_views()
    head, valid = head_of(), torch.arange(N) < there
    clips = random_clips(N, invalid=range(there, N))
    terms = global_loss(embedded(head, maps, audio, valid), clips, OPTIONS, World())
    terms.loss.backward()
    assert all(torch.isfinite(value).all() for value in head.state_dict().values())
    assert all(torch.isfinite(gradient_of(p)).all() for p in head.parameters())


def test_one_view_predicts_nothing_and_the_loss_says_so() -> None:
    maps, audio = two_views()
    embeddings = head_of()(embed(maps[0], audio), maps[:1], None)
    assert not embeddings.extra
    with pytest.raises(UserError, match="sspl needs its head in the model, and two views of each frame"):
        global_loss(embeddings, random_clips(N), OPTIONS, World())


def step(world: World) -> tuple[Tensor, dict[str, Tensor]]:
    """Per-clip losses and the averaged gradients of the head, on this rank's rows, in eval mode."""
    n = N // world.size
    rows = slice(world.rank * n, (world.rank + 1) * n)
    maps, audio = two_views()
    head = head_of().eval()
    clips = take(random_clips(N, invalid=(1,)), rows)
    embeddings = embedded(head, [view[rows] for view in maps], audio[rows], clips.valid)
    terms = global_loss(embeddings, clips, OPTIONS, world)
    terms.loss.backward()
    gradients = {name: world.sum(gradient_of(p)) / world.size for name, p in head.named_parameters()}
    return world.gather_rows(terms.per_clip.detach()), gradients


def test_two_ranks_are_one_process() -> None:
    expected = step(World())
    assert expected[0][1] == 0, "the clip that is not valid adds nothing"
    for found in run_ranks(2, step):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
