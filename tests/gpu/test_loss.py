"""Promise 5 on every device: the loss in single and half precision is the processor's in double."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from cacl.loss import LossOptions, global_loss
from cacl.loss.module import AudioVisualContrast
from cacl.loss.objectives import InfoNCE
from cacl.loss.positives import OwnClip
from cacl.loss.precision import Precision, flags_of, in_effect, product, round_to
from cacl.loss.similarities import Columns, MaxSimilarity, MeanSimilarity
from cacl.types import ClipLabels, Embeddings
from cacl.world import World
from tests.gpu.devices import SELDOM_HERE
from tests.helpers.gradients import gradient_of
from tests.helpers.memory import peak_memory
from tests.loss.batches import at_best_pixels, embed, random_clips, random_parameters
from tests.loss.combinations import SIMILARITIES, every_part, heads_of, named

CPU = torch.device("cpu")
N, PIXELS, CHANNELS = 48, 9, 16
ONE_BLOCK, BLOCKS = 64.0, 0.05
LESS: list[Precision] = ["tf32", "bfloat16"]


def vectors(options: LossOptions, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    maps, audio, _ = random_parameters(N, heads_of(options), PIXELS, CHANNELS)
    units = embed(maps, audio)
    return units.image.to(dtype), units.audio.to(dtype)


def clips_of(dtype: torch.dtype, device: torch.device, n: int = N) -> ClipLabels:
    clips = random_clips(n, invalid=(3, 10))
    assert clips.soft is not None
    return replace(clips, confidence=clips.confidence.to(dtype), soft=clips.soft.to(dtype)).to(device)


def compute(
    options: LossOptions, maps: Tensor, audio: Tensor, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """Terms and gradients of vectors that are brought to `device`, given back on the processor in double."""
    maps, audio = (x.to(device).requires_grad_() for x in (maps, audio))
    scalars = {
        name: torch.tensor(value, dtype=dtype, device=device, requires_grad=True)
        for name, value in options.scalars().items()
    }
    target = Embeddings(maps.detach(), audio.detach())
    embeddings = Embeddings(maps, audio, scalars, target)
    terms = global_loss(embeddings, clips_of(dtype, device), options, World(device=device), step=2)
    terms.loss.backward()
    found = {"per_clip": terms.per_clip, "mean": terms.mean, **terms.logged}
    leaves = {"maps": maps, "audio": audio, **scalars}
    found |= {f"gradient of {name}": gradient_of(leaf) for name, leaf in leaves.items()}
    return {name: value.detach().double().cpu() for name, value in found.items()}


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_single_precision_is_double_precision_of_the_processor(device, similarity):
    compare_precisions(device, similarity, ONE_BLOCK)


@SELDOM_HERE
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_single_precision_in_several_blocks_is_double_precision_of_the_processor(device, similarity):
    compare_precisions(device, similarity, BLOCKS)


def compare_precisions(device: torch.device, similarity: str, memory_mib: float) -> None:
    """Logits are 5 at most, so float32's 6e-8 is 1e-6 of a term; the sums have 48 terms."""
    common = {"temperature": 0.2, "learn_temperature": True, "memory_mib": memory_mib}
    for name, options in every_part(similarity, **common).items():
        maps, audio = vectors(options, torch.float32)
        expected = compute(options, maps.double(), audio.double(), torch.float64, CPU)
        found = compute(options, maps, audio, torch.float32, device)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5, msg=named(name))


@pytest.mark.parametrize("scores", LESS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_scores_in_less_than_float32_are_those_of_rounded_vectors_in_double(device, similarity, scores):
    """To the errors of 64 sums in float32. `max` rounds neither own pairs nor the choice of a pixel; no tf32, none."""
    part = SIMILARITIES[similarity]
    maps, audio, _ = random_parameters(N, part.heads or 2, PIXELS, 64)
    units = embed(maps.float(), audio.float())
    rows, audio, scale = part.prepare(units.image), units.audio, 16.0
    columns = Columns(torch.arange(N), torch.ones(N, dtype=torch.bool))
    there = Columns(columns.own.to(device), columns.valid.to(device), precision=scores)
    found = part.scores(rows.to(device), audio.to(device), there, scale).pair.double().cpu()
    inside, around = (round_to(in_effect(scores, device), x).double() for x in (rows, audio))
    wanted = part.scores(inside, around, columns, scale).pair
    if part.name == "max":
        wanted = at_best_pixels(inside, around, of=(rows, audio))
        wanted.diagonal().copy_(part.scores(rows.double(), audio.double(), columns, scale).pair.diagonal())
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("scores", LESS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gradients_of_scores_in_less_than_float32_keep_their_direction(device, similarity, scores):
    part = SIMILARITIES[similarity]
    for temperature in (0.03, 0.07, 1.0):
        options = LossOptions(
            similarity=part, positives=OwnClip(), objective=InfoNCE(), temperature=temperature, scores=scores
        )
        maps, audio = vectors(options, torch.float32)
        expected = compute(options, maps.double(), audio.double(), torch.float64, CPU)
        found = compute(options, maps, audio, torch.float32, device)
        for key in ("gradient of maps", "gradient of audio"):
            both = found[key].flatten(), expected[key].flatten()
            assert torch.cosine_similarity(*both, dim=0) > 0.999, f"{temperature} {key}"


def test_torchs_flags_are_as_before_and_nothing_waits(device):
    flags, units = flags_of(device.type == "cuda"), torch.ones(4, 8, device=device, requires_grad=True)
    before = flags.fp32_precision
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    for scores in LESS:
        product(units, units, scores).sum().backward()
        assert flags.fp32_precision == before


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_half_precision_vectors_are_taken_as_the_numbers_that_they_are(device, similarity):
    """All is computed in float32; gradients alone are rounded to bfloat16, whose steps are 2^-8."""
    for name, options in every_part(similarity, temperature=0.2).items():
        maps, audio = vectors(options, torch.bfloat16)
        expected = compute(options, maps.double(), audio.double(), torch.float64, CPU)
        found = compute(options, maps, audio, torch.float32, device)
        gradients = {key for key in expected if key.startswith("gradient")}
        for key, value in expected.items():
            rtol = 2**-7 if key in gradients else 1e-4
            torch.testing.assert_close(found[key], value, rtol=rtol, atol=2e-5, msg=named(f"{name} {key}"))


@SELDOM_HERE
@pytest.mark.parametrize("similarity", [MaxSimilarity(), MeanSimilarity()], ids=lambda part: part.name)
def test_memory_keeps_to_its_budget(device, similarity):
    """One block's scores, and what is linear in the batch: the vectors' gradients and a few sums a clip."""
    n, pixels, channels = 512, 16, 8
    options = LossOptions(similarity=similarity, objective=InfoNCE(), direction="both", memory_mib=2)
    maps, audio, _ = random_parameters(n, 1, pixels, channels)
    units = embed(maps.float(), audio.float())
    inputs = [x.to(device).requires_grad_() for x in (units.image, units.audio)]
    clips = clips_of(torch.float32, device, n)

    def loss(budget: float) -> Tensor:
        chosen = replace(options, memory_mib=budget)
        return global_loss(Embeddings(inputs[0], inputs[1]), clips, chosen, World(device=device)).loss

    for budget in (2.0, 1024.0):
        loss(budget).backward()  # libraries take their workspaces
        for tensor in inputs:
            tensor.grad = None
    bounded, unbounded = (peak_memory(partial(loss, budget), inputs) for budget in (2.0, 1024.0))
    linear = n * (pixels * channels + channels + 64) * 4
    assert bounded <= 2 * 2**20 + 4 * linear, bounded
    assert unbounded > 2 * bounded


def test_the_loss_alone_makes_what_it_needs_on_its_inputs_device(device):
    contrast = AudioVisualContrast(similarity="max", temperature=0.1, learn_temperature=True).to(device)
    image, audio, _ = random_parameters(8, 1, 9, 5)
    image, audio = image[:, 0].float().to(device).requires_grad_(), audio[:, 0].float().to(device)
    value = contrast(image, audio, labels=torch.arange(8) % 3)
    value.backward()
    assert value.device == device and image.grad is not None and image.grad.device == device
