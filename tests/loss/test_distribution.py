"""Promises 5 and 6: what crosses ranks, what the host never waits for, and the traps of other codes."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cacl.loss import LossOptions, global_loss
from cacl.loss.objective import InfoNCE, Sigmoid, SupCon
from cacl.loss.pairs import GlobalBatch
from cacl.loss.positives import OwnClip, SameClass
from cacl.loss.regularizers import Fnac
from cacl.loss.similarity import MaxSimilarity
from cacl.loss.traffic import bytes_of_gathering_everything, bytes_received
from cacl.types import Clips, Embeddings
from cacl.world import World
from tests.loss.batches import embed, random_clips, random_parameters, take
from tests.loss.combinations import SIMILARITIES, combinations, heads_of
from tests.loss.test_ranks import N, sgd_step
from tests.ranks import run_ranks

door = importlib.import_module("cacl.loss.global_loss")
WAITS = ("_local_scalar_dense", "nonzero", "_unique2", "masked_select", "is_nonzero", "equal")


class NoWaiting(TorchDispatchMode):
    """Raises where the host would wait for the device, or a shape would depend on values."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.name().split("::")[1].split(".")[0]
        assert name not in WAITS, f"{name} makes the host wait for the device"
        return function(*arguments, **(keywords or {}))


def leaves(options: LossOptions, n: int = N, dtype=torch.float64) -> Embeddings:
    maps, audio, _ = random_parameters(n, heads_of(options.similarity.name))
    units = embed(maps, audio)
    scalars = {
        name: torch.tensor(v, dtype=dtype, requires_grad=True) for name, v in options.scalars().items()
    }
    maps, audio = units.maps.to(dtype).requires_grad_(), units.audio.to(dtype).requires_grad_()
    return Embeddings(maps, audio, scalars)


def loss_without_waiting(world: World, every: list[LossOptions]) -> None:
    n = N // world.size
    clips = take(random_clips(N, invalid=(3,)), slice(world.rank * n, (world.rank + 1) * n))
    step = torch.tensor(2)
    for options in every:
        embeddings = leaves(options, n)
        with NoWaiting():
            global_loss(embeddings, clips, options, world, step).backward_scalar.backward()


def test_the_check_for_waiting_can_fail() -> None:
    with NoWaiting(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        torch.ones(1).sum().item()


@pytest.mark.parametrize("similarity", [s.name for s in SIMILARITIES])
def test_nothing_waits_for_the_device(similarity: str) -> None:
    common = {"temperature": 0.2, "learn_temperature": True}
    whole = list(combinations(similarity, False, **common, memory_mib=64).values())
    cut = list(combinations(similarity, False, **common, memory_mib=0.002).values())
    every = whole[::2] + cut[1::4]
    loss_without_waiting(World(), every)


def test_nothing_waits_for_the_device_on_two_ranks() -> None:
    run_ranks(2, loss_without_waiting, list(combinations("max", False).values())[::4] + TRAFFIC)


TRAFFIC = [
    LossOptions(positives=positives, objective=objective, similarity=similarity, direction=direction)
    for similarity in (SIMILARITIES[0], MaxSimilarity())
    for objective in (LossOptions().objective, InfoNCE(), SupCon())
    for positives in (OwnClip(), SameClass(), SameClass(number_of_classes=3))
    for direction in ("image", "audio", "both")
] + [LossOptions(objective=Sigmoid())]


def traffic(world: World, every: list[LossOptions]) -> list[int]:
    n = N // world.size
    clips = take(random_clips(N), slice(world.rank * n, (world.rank + 1) * n))
    found = []
    for options in every:
        embeddings = leaves(options, n, torch.float32)
        world.traffic.clear()
        global_loss(embeddings, clips, options, world).backward_scalar.backward()
        found.append(sum(world.traffic.values()))
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_bytes_across_ranks_are_the_documented_formula(size: int) -> None:
    width = 2 * 5
    expected = [bytes_received(options, N, size, width, soft_classes=4) for options in TRAFFIC]
    for found in run_ranks(size, traffic, TRAFFIC):
        assert found == expected


def test_bytes_are_a_fortieth_of_gathering_everything() -> None:
    for options in (
        LossOptions(similarity=MaxSimilarity(), objective=InfoNCE(), direction="both"),
        LossOptions(),
    ):
        ours = bytes_received(options, clips=1024, world_size=8, width=512)
        assert ours * 40 <= bytes_of_gathering_everything(1024, 8, 512, 49)


def precision_under_autocast(options: LossOptions) -> tuple[torch.Tensor, torch.Tensor]:
    maps, audio, _ = random_parameters(64, 1, 9, 32)
    clips = random_clips(64)
    units = embed(maps.bfloat16(), audio.bfloat16())
    wide = global_loss(Embeddings(units.maps.double(), units.audio.double()), clips, options, World())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = global_loss(units, clips, options, World())
    return half.per_clip, wide.per_clip


@pytest.mark.parametrize("similarity", [SIMILARITIES[0], MaxSimilarity()])
@pytest.mark.parametrize("objective", [LossOptions().objective, InfoNCE(), SupCon()])
def test_under_bf16_autocast_reductions_stay_in_float32(similarity, objective) -> None:
    options = LossOptions(similarity=similarity, objective=objective, temperature=0.03, direction="both")
    half, wide = precision_under_autocast(options)
    assert half.dtype == torch.float32
    # float32 sums of logits up to 33; bfloat16 anywhere would show errors of 33 * 2^-9 = 0.06.
    torch.testing.assert_close(half.double(), wide, rtol=1e-4, atol=1e-4)


class PlainGather(World):
    """open_clip's gather without gradient: the other ranks' rows are constants."""

    def gather_rows(self, x, shares=None):
        whole = super().gather_rows(x.detach(), shares)
        n = len(x)
        return torch.cat([whole[: self.rank * n], x, whole[(self.rank + 1) * n :]]) if self.size > 1 else x


def trapped_step(world: World, trap: str, options: LossOptions):
    """`sgd_step` as another code would take it."""
    collect, gather = door._collect, GlobalBatch.gather

    def without_factor(*arguments):
        terms = collect(*arguments)
        return replace(terms, backward_scalar=terms.backward_scalar / world.size)

    def without_offset(*arguments):
        return replace(gather(*arguments), first=0)

    def interleaved(*arguments):
        batch = gather(*arguments)
        own = torch.arange(len(batch.clips.label)) * world.size + world.rank
        return mock.Mock(wraps=batch, spec=batch, **vars(batch), own=own)

    match trap:
        case "plain gather":
            return sgd_step(PlainGather(world.rank, world.size), options, True, 1)
        case "no factor of world size":
            with mock.patch.object(door, "_collect", without_factor):
                return sgd_step(world, options, True, 1)
        case "labels not shifted by rank":
            with mock.patch.object(GlobalBatch, "gather", without_offset):
                return sgd_step(world, options, True, 1)
        case "wrong mask after the gather":
            with mock.patch.object(GlobalBatch, "gather", interleaved):
                return sgd_step(world, options, True, 1)
    return sgd_step(world, options, True, 1)


TRAPS = [
    "plain gather",
    "no factor of world size",
    "labels not shifted by rank",
    "wrong mask after the gather",
]


@pytest.mark.parametrize("trap", [None, *TRAPS])
def test_a_step_of_sgd_tells_every_trap_of_gathering(trap: str | None) -> None:
    """SGD without clipping: Adam would hide a factor."""
    options = LossOptions(
        similarity=MaxSimilarity(), objective=InfoNCE(), positives=OwnClip(), direction="both"
    )
    expected = sgd_step(World(), options, True, 1)
    for found in run_ranks(2, trapped_step, trap, options):
        same = torch.allclose(found["weight"], expected["weight"], rtol=1e-10, atol=1e-10)
        assert same == (trap is None)


def peak_of(options: LossOptions, n: int, folder: Path) -> int:
    """Bytes allocated at most during forward and backward, less the gradients."""
    maps, audio, _ = random_parameters(n, 1, 9, 8)
    units = embed(maps, audio)
    embeddings = Embeddings(units.maps.requires_grad_(), units.audio.requires_grad_())
    clips = random_clips(n)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        global_loss(embeddings, clips, options, World()).backward_scalar.backward()
    profile.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    memory = [event for event in events if event.get("name") == "[memory]"]
    memory.sort(key=lambda event: event["ts"])
    first = memory[0]["args"]["Total Allocated"] - memory[0]["args"]["Bytes"]
    gradients = embeddings.maps.nbytes + embeddings.audio.nbytes
    return max(event["args"]["Total Allocated"] for event in memory) - first - gradients


@pytest.mark.parametrize("similarity", [MaxSimilarity(), SIMILARITIES[0]])
def test_peak_memory_is_linear_in_the_batch_and_keeps_to_its_budget(similarity, tmp_path: Path) -> None:
    options = LossOptions(similarity=similarity, objective=InfoNCE(), direction="both", memory_mib=2)
    small, large = (peak_of(options, n, tmp_path) for n in (300, 600))
    linear = 600 * (9 * 8 + 8 + 64) * 8
    assert large <= 2 * 2**20 + 4 * linear
    assert large - 2 * 2**20 <= 2.5 * max(small - 2 * 2**20, linear)
    unbounded = peak_of(replace(options, memory_mib=4096), 600, tmp_path)
    assert unbounded > 4 * large


def cached(embeddings: Embeddings, clips: Clips, options: LossOptions) -> list[torch.Tensor]:
    terms = global_loss(embeddings, clips, options, World())
    inputs = [embeddings.maps, embeddings.audio, *embeddings.scalars.values()]
    return list(torch.autograd.grad(terms.backward_scalar, inputs))


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
    expected = torch.autograd.grad(whole.backward_scalar, [weight, scale])
    with torch.no_grad():
        units = embed(maps @ weight, audio @ weight)
    leaf = Embeddings(
        units.maps.requires_grad_(),
        units.audio.requires_grad_(),
        {"logit_scale": scale.detach().requires_grad_()},
    )
    by_maps, by_audio, by_scale = cached(leaf, clips, options)
    total = torch.zeros_like(weight)
    for rows in (slice(0, 5), slice(5, 6), slice(6, N)):
        part = embed(maps[rows] @ weight, audio[rows] @ weight)
        total += torch.autograd.grad([part.maps, part.audio], weight, [by_maps[rows], by_audio[rows]])[0]
    torch.testing.assert_close([total, by_scale], list(expected), rtol=1e-10, atol=1e-10)
