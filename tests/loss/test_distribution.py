"""Promises 4, 5 and 6: what crosses ranks, what the host never waits for, precision, memory, the cached form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.traffic import bytes_of_gathering_everything, bytes_received
from cacl.loss import LossOptions, global_loss
from cacl.loss.objectives import Contrast, InfoNCE, Sigmoid, SupCon
from cacl.loss.positives import OwnClip, SameClass, SoftOverlap
from cacl.loss.regularizers import Fnac
from cacl.loss.similarities import LogSumExpSimilarity, MaxSimilarity
from cacl.loss.sums import FLOATS_OF_OBJECTIVE
from cacl.types import ClipLabels, Embeddings
from cacl.world import World
from tests.helpers.gradients import gradient_of
from tests.helpers.memory import peak_memory
from tests.helpers.ranks import run_ranks
from tests.helpers.waiting import NeverWaits
from tests.loss.batches import embed, random_clips, random_parameters, take
from tests.loss.cases import N
from tests.loss.combinations import DIRECTIONS, SIMILARITIES, Direction, combinations, every_part, heads_of


def leaves(options: LossOptions, n: int = N, dtype=torch.float64) -> Embeddings:
    maps, audio, _ = random_parameters(n, heads_of(options))
    units = embed(maps, audio)
    scalars = {
        name: torch.tensor(v, dtype=dtype, requires_grad=True) for name, v in options.scalars().items()
    }
    maps, audio = units.image.to(dtype).requires_grad_(), units.audio.to(dtype).requires_grad_()
    return Embeddings(maps, audio, scalars)


def with_target(embeddings: Embeddings) -> Embeddings:
    return replace(embeddings, target=Embeddings(embeddings.image.detach(), embeddings.audio.detach()))


def loss_without_waiting(world: World, every: list[LossOptions]) -> None:
    n = N // world.size
    clips = take(random_clips(N, invalid=(3,)), slice(world.rank * n, (world.rank + 1) * n))
    step = torch.tensor(2)
    for number, options in enumerate(every):
        embeddings = leaves(options, n)
        if number % 2:
            embeddings = with_target(embeddings)
        with NeverWaits():
            global_loss(embeddings, clips, options, world, step).loss.backward()
            options.clamp_(embeddings.scalars)


def test_the_check_for_waiting_can_fail() -> None:
    with NeverWaits(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        torch.ones(1).sum().item()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_nothing_waits_for_the_device(similarity: str) -> None:
    common = {"temperature": 0.2, "learn_temperature": True}
    whole = list(combinations(similarity, False, **common, memory_mib=64).values())
    cut = list(every_part(similarity, **common, memory_mib=0.02).values())
    fnac = [replace(cut[0], regularizers=(Fnac(),))] if SIMILARITIES[similarity].heads != 2 else []
    loss_without_waiting(World(), whole[::2] + cut + fnac)


def test_nothing_waits_for_the_device_on_two_ranks() -> None:
    for similarity in ("max", "attention"):
        run_ranks(2, loss_without_waiting, list(every_part(similarity, memory_mib=0.02).values()))
    run_ranks(2, loss_without_waiting, TRAFFIC[::7])


TRAFFIC = [
    LossOptions(positives=positives, objective=objective, similarity=similarity, direction=direction)
    for similarity in (SIMILARITIES["mean"], MaxSimilarity())
    for objective in (LossOptions().objective, InfoNCE(), SupCon())
    for positives in (
        OwnClip(),
        SameClass(),
        SameClass(number_of_classes=3),
        SameClass(number_of_classes=8),
        SoftOverlap(),
    )
    for direction in DIRECTIONS
] + [LossOptions(objective=Sigmoid())]


def traffic(world: World, every: list[LossOptions]) -> list[int]:
    return [sum(received.values()) for received in traffic_by_kind(world, every)]


def traffic_by_kind(world: World, every: list[LossOptions]) -> list[dict[str, int]]:
    """Bytes that this rank receives by each collective, for a loss and its backward."""
    n = N // world.size
    clips = take(random_clips(N), slice(world.rank * n, (world.rank + 1) * n))
    assert clips.soft is not None
    clips = replace(clips, soft=clips.soft.float())
    found = []
    for options in every:
        embeddings = leaves(options, n, torch.float32)
        world.traffic.clear()
        global_loss(embeddings, clips, options, world).loss.backward()
        found.append(dict(world.traffic))
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_bytes_across_ranks_are_the_documented_formula(size: int) -> None:
    width = 2 * 5
    expected = [bytes_received(options, N, size, width, soft_classes=4) for options in TRAFFIC]
    for found in run_ranks(size, traffic, TRAFFIC):
        assert found == expected


def test_class_sums_travel_where_they_are_fewer_than_the_clips_in_all_directions_asked_for() -> None:
    """Bytes of each collective on two ranks, by hand: 24 clips, 10 floats a vector, 4 bytes a float."""
    clips, logged = 12 * 4 * 8, 2 * (7 * 8) // 2
    all_audio, columns, sums = 12 * 10 * 4, 12 * 6 * 4, 2 * (9 * 10 * 4) // 2  # 8 classes and the clips alone
    gathered = {"all_gather": clips + all_audio, "reduce_scatter": all_audio, "all_reduce": logged}
    with_columns = {"all_gather": clips + all_audio + columns, "reduce_scatter": all_audio + columns}
    expected: dict[tuple[Direction, int], dict[str, int]] = {
        # one sum of classes is moved twice, forward and again backward: 2 * 9 < 24
        ("image-to-audio", 8): {"all_gather": clips, "all_reduce": 2 * sums + logged},
        ("audio-to-image", 8): {"all_gather": clips, "all_reduce": 2 * sums + logged},
        # two sums would be 2 * 2 * 9 > 24, and the sounds themselves are fewer
        ("both", 8): {**with_columns, "all_reduce": logged},
        # 2 * 12 = 24 is not fewer
        ("image-to-audio", 11): gathered,
        # 2 * 2 * 4 < 24, each of 4 * 10 floats
        ("both", 3): {"all_gather": clips, "all_reduce": 2 * 2 * 4 * 10 * 4 + logged},
    }
    every = [
        LossOptions(positives=SameClass(number_of_classes=classes), direction=direction)
        for direction, classes in expected
    ]
    for found in run_ranks(2, traffic_by_kind, every):
        assert found == list(expected.values())


def test_bytes_are_a_fortieth_of_gathering_everything() -> None:
    for options in (
        LossOptions(similarity=MaxSimilarity(), objective=InfoNCE(), direction="both"),
        LossOptions(),
    ):
        ours = bytes_received(options, clips=1024, world_size=8, width=512)
        assert ours * 40 <= bytes_of_gathering_everything(1024, 8, 512, 49)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_under_bf16_autocast_reductions_stay_in_float32(similarity: str) -> None:
    """In one block and in blocks, forward and backward, with and without a target."""
    clips = random_clips(64)
    for number, options in enumerate(every_part(similarity, temperature=0.03).values()):
        maps, audio, _ = random_parameters(64, heads_of(options), 9, 32)
        half = embed(maps.bfloat16(), audio.bfloat16())
        scalars = {name: torch.tensor(value) for name, value in options.scalars().items()}
        half = Embeddings(half.image.requires_grad_(), half.audio.requires_grad_(), scalars)
        single = Embeddings(
            half.image.detach().float().requires_grad_(),
            half.audio.detach().float().requires_grad_(),
            scalars,
        )
        if number % 3 == 1:
            half, single = with_target(half), with_target(single)
        options = replace(options, memory_mib=128 if number % 2 else 0.5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = global_loss(half, clips, options, World())
        found.loss.backward()
        wanted = global_loss(single, clips, options, World())
        wanted.loss.backward()
        assert found.per_clip.dtype == torch.float32
        assert torch.equal(found.per_clip, wanted.per_clip)
        assert torch.equal(gradient_of(half.image), gradient_of(single.image).bfloat16())
        assert torch.equal(gradient_of(half.audio), gradient_of(single.audio).bfloat16())


def peak_of(options: LossOptions, n: int, pixels: int = 9) -> int:
    """Bytes allocated at most during forward and backward, less the gradients."""
    maps, audio, _ = random_parameters(n, options.similarity.heads or 1, pixels, 8)
    scalars = {name: torch.tensor(value).requires_grad_() for name, value in options.scalars().items()}
    units = embed(maps, audio, scalars)
    embeddings = Embeddings(units.image.requires_grad_(), units.audio.requires_grad_(), scalars)
    clips = random_clips(n)
    return peak_memory(
        lambda: global_loss(embeddings, clips, options, World()).loss,
        [embeddings.image, embeddings.audio],
    )


@pytest.mark.parametrize("similarity", [MaxSimilarity(), SIMILARITIES["mean"]])
def test_peak_memory_is_linear_in_the_batch_and_keeps_to_its_budget(similarity) -> None:
    options = LossOptions(similarity=similarity, objective=InfoNCE(), direction="both", memory_mib=2)
    small, large = (peak_of(options, n) for n in (300, 600))
    linear = 600 * (9 * 8 + 8 + 64) * 8
    assert large <= 2 * 2**20 + 4 * linear
    assert large - 2 * 2**20 <= 2.5 * max(small - 2 * 2**20, linear)
    unbounded = peak_of(replace(options, memory_mib=4096), 600)
    assert unbounded > 4 * large


@pytest.mark.parametrize(("heads", "pixels"), [(1, 24), (2, 12), (6, 4)])
def test_a_block_has_as_many_rows_as_its_budget_holds_scores_of_all_heads(heads: int, pixels: int) -> None:
    """200 columns of 24 pixels and heads, 4 tensors of them at once beside 16 values a pair, 8 bytes each."""
    row = 200 * (4 * 24 + 16) * 8
    options = LossOptions(objective=InfoNCE(), memory_mib=7.5 * row / 2**20)
    maps, audio, _ = random_parameters(200, heads, pixels, 4)
    rows = []

    class Seen(LogSumExpSimilarity):
        def scores(self, block, *others):
            rows.append(len(block))
            return super().scores(block, *others)

    global_loss(embed(maps, audio), random_clips(200), replace(options, similarity=Seen()), World())
    assert set(rows) == {7, 200 % 7} and sum(rows) == 200


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_block_holds_no_more_than_the_budget_takes_it_for(name: str) -> None:
    """`floats_per_score` of each similarity, with a learned temperature: all rows are one block here."""
    n, pixels, similarity = 100, 49, SIMILARITIES[name]
    options = LossOptions(similarity=similarity, objective=InfoNCE(), learn_temperature=True, memory_mib=4096)
    heads = similarity.heads or 1
    floats = similarity.floats_per_score * heads * pixels + FLOATS_OF_OBJECTIVE
    linear = 2 * n * 8 * heads * (pixels + 1) * 8
    assert peak_of(options, n, pixels) <= n * n * floats * 8 + linear


class LargestTensor(TorchDispatchMode):
    """Remembers the largest number of values that any operation returned."""

    values = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        found = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.numel())
        return found


@pytest.mark.parametrize("objective", [Contrast(), InfoNCE(), Sigmoid()])
def test_the_mean_never_builds_the_tensor_of_all_pixels_and_sounds(objective) -> None:
    n, pixels, channels = 64, 9, 4

    def largest(similarity) -> int:
        options = LossOptions(similarity=similarity, objective=objective, memory_mib=1024)
        maps, audio, _ = random_parameters(n, 1, pixels, channels)
        scalars = {name: torch.tensor(value) for name, value in options.scalars().items()}
        embeddings = Embeddings(maps.requires_grad_(), audio.requires_grad_(), scalars)
        with LargestTensor() as seen:
            global_loss(embeddings, random_clips(n), options, World()).loss.backward()
        return seen.values

    assert largest(LogSumExpSimilarity()) >= n * pixels * n, "the check sees what is built"
    assert largest(SIMILARITIES["mean"]) <= n * max(n, pixels * channels)


def cached(embeddings: Embeddings, clips: ClipLabels, options: LossOptions) -> list[torch.Tensor]:
    terms = global_loss(embeddings, clips, options, World())
    inputs = [embeddings.image, embeddings.audio, *embeddings.scalars.values()]
    return list(torch.autograd.grad(terms.loss, inputs))


@pytest.mark.parametrize("regularizers", [(), (Fnac(),)], ids=["pairs", "fnac"])
def test_the_cached_form_has_the_gradient_of_the_whole(regularizers) -> None:
    """Embeddings and learned scalars as leaves first, the weight's gradient by micro-batches second."""
    options = LossOptions(
        similarity=MaxSimilarity(),
        objective=InfoNCE(),
        direction="both",
        learn_temperature=True,
        regularizers=regularizers,
        memory_mib=0.01,
    )
    maps, audio, weight = random_parameters(N)
    weight.requires_grad_()
    scale = torch.tensor(options.scalars()["logit_scale"], dtype=torch.float64, requires_grad=True)
    clips = random_clips(N)
    whole = global_loss(embed(maps @ weight, audio @ weight, {"logit_scale": scale}), clips, options, World())
    expected = torch.autograd.grad(whole.loss, [weight, scale])
    with torch.no_grad():
        units = embed(maps @ weight, audio @ weight)
    leaf = Embeddings(
        units.image.requires_grad_(),
        units.audio.requires_grad_(),
        {"logit_scale": scale.detach().requires_grad_()},
    )
    by_maps, by_audio, by_scale = cached(leaf, clips, options)
    total = torch.zeros_like(weight)
    for rows in (slice(0, 5), slice(5, 6), slice(6, N)):
        part = embed(maps[rows] @ weight, audio[rows] @ weight)
        total += torch.autograd.grad([part.image, part.audio], weight, [by_maps[rows], by_audio[rows]])[0]
    torch.testing.assert_close([total, by_scale], list(expected), rtol=1e-10, atol=1e-10)
