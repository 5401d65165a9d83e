"""Promise 11: choice by retrieval, the same on any number of ranks, against one obvious loop."""

from __future__ import annotations

import pytest
import torch

from cacl.loss.objectives import InfoNCE
from cacl.loss.options import LossOptions
from cacl.loss.similarities import AttentionSimilarity, MaxSimilarity, MeanSimilarity
from cacl.training.validation import retrieval
from cacl.types import Batch, ClipLabels, Embeddings
from cacl.world import World
from tests.helpers.ranks import run_ranks

N, PIXELS, CHANNELS = 37, 9, 6


class Table(torch.nn.Module):
    """A model whose embeddings are fixed by the clip's number, which stands in its first pixel."""

    def forward(self, images, spectrograms, keys=None, valid=None):
        index = images[:, 0, 0, 0].long()
        draw = torch.Generator().manual_seed(5)
        maps = torch.nn.functional.normalize(torch.randn(N, 1, PIXELS, CHANNELS, generator=draw), dim=-1)
        audio = torch.nn.functional.normalize(
            torch.randn(N, 1, CHANNELS, generator=draw) + maps.mean(2), dim=-1
        )
        return Embeddings(maps[index], audio[index])


def label(index: torch.Tensor) -> torch.Tensor:
    return torch.where(index % 5 == 0, -1, index % 3)


def join_labels(index: torch.Tensor, valid: torch.Tensor) -> ClipLabels:
    return ClipLabels(index, label(index), torch.ones(len(index)), valid)


def all_valid(index: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(index), dtype=torch.bool)


def batches(indices: range, size: int = 4):
    for start in range(0, len(indices), size):
        index = torch.tensor(list(indices[start : start + size]))
        images = index.to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
        yield Batch(index, images, torch.zeros(len(index), 8), index != 11)


def measure(world: World, name: str, stop=lambda: False) -> dict[str, float] | None:
    share = range(world.rank * N // world.size, (world.rank + 1) * N // world.size)
    loss = LossOptions(similarity=MaxSimilarity() if name == "max" else MeanSimilarity())
    model = Table()
    return retrieval(
        lambda batch: model(batch.images, batch.waveforms), batches(share), join_labels, loss, world, stop
    )


def oracle(name: str) -> dict[str, float]:
    kept = [k for k in range(N) if k != 11]
    embeddings = Table()(torch.tensor(kept)[:, None, None, None], None)
    cosines = torch.einsum("npd,md->nmp", embeddings.image[:, 0], embeddings.audio[:, 0])
    pair = cosines.amax(2) if name == "max" else cosines.mean(2)
    place = [int((row >= row[k]).sum()) for k, row in enumerate(pair)]
    labels = label(torch.tensor(kept))
    same = [labels[k] == labels[row.argmax()] for k, row in enumerate(pair) if labels[k] >= 0]
    return {
        "recall_at_1": sum(p <= 1 for p in place) / len(kept),
        "recall_at_5": sum(p <= 5 for p in place) / len(kept),
        "class_recall_at_1": sum(map(float, same)) / len(same),
        "clips": len(kept),
    }


@pytest.mark.parametrize("name", ["max", "mean"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_retrieval_is_the_loop_s_on_any_number_of_ranks(name: str, size: int) -> None:
    expected = oracle(name)
    assert 0 < expected["recall_at_1"] < expected["recall_at_5"] < 1, "a case that can tell right from wrong"
    for found in run_ranks(size, measure, name):
        assert found == pytest.approx(expected, abs=1e-12)


def measure_until(world: World, batches_left: int) -> dict[str, float] | None:
    """The last rank alone is told to stop, after so many batches."""
    asked = iter(range(1000))
    return measure(world, "max", lambda: world.rank == world.size - 1 and next(asked) >= batches_left)


@pytest.mark.parametrize("size", [1, 2])
def test_one_rank_that_is_told_to_stop_stops_all(size: int) -> None:
    assert run_ranks(size, measure_until, 2) == [None] * size


def pointing(world: World, spectrograms: list[list[float]], images: list[list[float]], options: LossOptions):
    """Retrieval among clips of one place each, this rank's share of them, two a batch."""
    n, scalars = len(spectrograms), {"logit_scale": torch.tensor(4.0)}
    share = torch.arange(n)[world.rank * n // world.size : (world.rank + 1) * n // world.size]
    return retrieval(
        lambda batch: Embeddings(
            torch.tensor(images)[batch.index, None, None],
            torch.tensor(spectrograms)[batch.index, None],
            scalars,
        ),
        (Batch(index, torch.zeros(len(index), 3, 2, 2), index, all_valid(index)) for index in share.split(2)),
        join_labels,
        options,
        world,
    )


@pytest.mark.parametrize("size", [1, 2])
def test_a_model_that_finds_all_sounds_alike_has_recall_0(size: int) -> None:
    """Ties count against it: a collapsed model is never the best one."""
    alike = [[1.0, 0.0]] * 12
    for found in run_ranks(size, pointing, alike, alike, LossOptions()):
        assert found["recall_at_1"] == found["recall_at_5"] == 0


def test_a_tie_counts_as_if_the_own_sound_came_last() -> None:
    """Six sounds are each image's own, twice: two are as good, so none is first and all are among the five."""
    six = torch.eye(6).repeat(2, 1).tolist()
    found = pointing(World(), six, six, LossOptions())
    assert found["recall_at_1"] == 0 and found["recall_at_5"] == 1


def test_a_similarity_that_uses_the_temperature_is_validated_with_the_learned_one() -> None:
    """Attention over places is sharp at a low temperature: image and sound differ in which clip they find."""
    draw = torch.Generator().manual_seed(3)
    maps = torch.nn.functional.normalize(torch.randn(24, 2, 9, 6, generator=draw).double(), dim=-1)
    spectrograms = torch.randn(24, 2, 6, generator=draw).double() + 6 * maps.mean(2)
    audio = torch.nn.functional.normalize(spectrograms, dim=-1)
    loss = LossOptions(similarity=AttentionSimilarity(), learn_temperature=True, objective=InfoNCE())
    found = {}
    for scale in (1.0, 20.0):
        scalars = {"logit_scale": torch.tensor(scale).double().log()}
        measured = retrieval(
            lambda batch: Embeddings(maps[batch.index], audio[batch.index], scalars),  # noqa: B023
            [Batch(i, i, i, all_valid(i)) for i in torch.arange(24).split(8)],
            join_labels,
            loss,
            World(),
        )
        assert measured is not None, "nothing stopped it"
        first, second = (scale * torch.einsum("nhpd,mhd->nhpm", maps, audio)).exp().unbind(1)
        pair = (first / first.sum(2, keepdim=True) * second / second.sum(1, keepdim=True)).sum(1)
        places = torch.tensor([(row >= row[k]).sum() for k, row in enumerate(pair)])
        found[scale] = float((places <= 1).double().mean())
        assert measured["recall_at_1"] == pytest.approx(found[scale], abs=1e-12)
    assert found[1.0] != found[20.0], "a case that can tell right from wrong"


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_has_diverged_finds_nothing(size: int, value: float) -> None:
    """No comparison with NaN is true: by `>=` alone every sound of such a model would be the first."""
    six = torch.eye(6).repeat(2, 1)
    for rows, share in ((range(12), 1.0), (range(1), 1.0)):
        broken = six.clone()
        broken[list(rows)] = value
        for found in run_ranks(size, pointing, broken.tolist(), six.tolist(), LossOptions()):
            assert found["recall_at_1"] == found["recall_at_5"] == 0
            assert found["not_finite"] == share and found["class_recall_at_1"] == 0
    for found in run_ranks(size, pointing, six.tolist(), six.tolist(), LossOptions()):
        assert "not_finite" not in found


def test_a_single_clip_of_a_diverged_model_is_not_found() -> None:
    found = pointing(World(), [[float("nan"), 0.0]], [[1.0, 0.0]], LossOptions())
    assert found is not None and found["recall_at_1"] == 0 and found["not_finite"] == 1
