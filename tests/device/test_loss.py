"""Promise 6: the loss and its backward stay on the device, whatever their parts, and never wait for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cacl.loss import AudioVisualContrast, LossOptions, global_loss
from cacl.loss.objectives import InfoNCE, Sigmoid
from cacl.loss.positives import OwnClip, SameClass, SoftOverlap
from cacl.loss.regularizers import Fnac
from cacl.loss.similarities import MaxSimilarity
from cacl.loss.sspl import Sspl
from cacl.types import ClipLabels, Embeddings
from cacl.world import World
from tests.device.cases import CLIPS, PIXELS, Case, every_case, pairwise_cases
from tests.device.crossings import LOSS_ALONE
from tests.device.flow import DEVICE, DeviceFlow
from tests.helpers.gradients import gradient_of
from tests.helpers.ranks import run_ranks
from tests.loss.batches import embed, random_clips, random_parameters, take
from tests.loss.combinations import SIMILARITIES, heads_of

CLIPS_OF = random_clips(CLIPS, invalid=(3,))


def leaves(options: LossOptions, rows: slice, target: bool) -> Embeddings:
    """Embeddings as the step hands them over: leaves on the device."""
    maps, audio, _ = random_parameters(CLIPS, heads_of(options), PIXELS)
    units = embed(maps, audio)
    image, audio = units.image[rows].to(DEVICE), units.audio[rows].to(DEVICE)
    scalars = {
        name: torch.tensor(value, dtype=torch.float64, device=DEVICE).requires_grad_()
        for name, value in options.scalars().items()
    }
    seen_by_average = Embeddings(image.clone(), audio.clone()) if target else None
    return Embeddings(image.requires_grad_(), audio.requires_grad_(), scalars, seen_by_average)


def flow_of(case: Case) -> None:
    """A loss, its backward and the bound on what it learns, of inputs on the device."""
    with DeviceFlow():
        embeddings, clips = leaves(case.options(), slice(None), case.target), CLIPS_OF.to(DEVICE)
    with DeviceFlow(within_step=True):
        check(embeddings, clips, case.options(), World(device=DEVICE))


def check(embeddings: Embeddings, clips: ClipLabels, options: LossOptions, world: World) -> None:
    """All that a loss gives lies on the device, its gradients too."""
    step = torch.full((), 2, device=DEVICE)
    terms = global_loss(embeddings, clips, options, world, step)
    terms.loss.backward()
    options.clamp_(embeddings.scalars)
    inputs = [embeddings.image, embeddings.audio, *embeddings.scalars.values()]
    gradients = [value.grad for value in inputs if value.grad is not None]
    given = [terms.per_clip, terms.mean, terms.loss, *terms.logged.values(), *gradients]
    assert len(gradients) >= 2 and {value.device for value in given} == {DEVICE}


def test_any_two_parts_stay_on_the_device() -> None:
    for case in pairwise_cases():
        flow_of(case)


@pytest.mark.device
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_every_combination_stays_on_the_device(similarity: str) -> None:
    for case in every_case():
        if case.similarity == similarity:
            flow_of(case)


def test_pairwise_cases_hold_what_can_meet() -> None:
    every, few = every_case(), pairwise_cases()
    assert frozenset().union(*(case.pairs() for case in few)) == frozenset().union(
        *(case.pairs() for case in every)
    )
    assert len(few) < 70 < len(every)
    assert {case.in_blocks for case in few} == {case.target for case in few} == {False, True}


@pytest.mark.parametrize("similarity", ["max", "attention", "tri-map"])
def test_scores_in_less_than_float32_stay_on_the_device(
    similarity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only a GPU multiplies is asked for, forward and backward."""
    monkeypatch.setattr("cacl.loss.precision.is_ampere", lambda device: True)
    for scores in ("tf32", "bfloat16"):
        options = LossOptions(
            similarity=SIMILARITIES[similarity],
            objective=InfoNCE(),
            scores=scores,
            kernel="torch",
            memory_mib=0.02,
        )
        with DeviceFlow():
            wide = leaves(options, slice(None), target=False)
            image, audio = (x.detach().float().requires_grad_() for x in (wide.image, wide.audio))
            clips = replace(CLIPS_OF, confidence=CLIPS_OF.confidence.float(), soft=None).to(DEVICE)
        with DeviceFlow(within_step=True):
            check(Embeddings(image, audio), clips, options, World(device=DEVICE))


RANKS = [
    LossOptions(positives=SameClass(number_of_classes=2)),
    LossOptions(positives=SameClass(), direction="both"),
    LossOptions(similarity=MaxSimilarity(), positives=SoftOverlap(), objective=InfoNCE(), direction="both"),
    LossOptions(similarity=MaxSimilarity(), objective=Sigmoid(), regularizers=(Fnac(),), memory_mib=0.02),
]


def flow_on_rank(world: World) -> None:
    """A rank's share of the losses, and of those that are told their labels by the host."""
    there, n = World(world.rank, world.size, DEVICE), CLIPS // world.size
    rows = slice(world.rank * n, (world.rank + 1) * n)
    for options in RANKS:
        with DeviceFlow():
            check(leaves(options, rows, target=False), take(CLIPS_OF, rows).to(DEVICE), options, there)
    with DeviceFlow(LOSS_ALONE):
        alone(there, slice(5) if world.rank == 0 else slice(5, CLIPS))


def test_ranks_exchange_what_is_on_the_device() -> None:
    run_ranks(2, flow_on_rank)


def test_sspl_stays_on_the_device() -> None:
    options = LossOptions(positives=OwnClip(), objective=Sspl(hidden=8, projection=8, bottleneck=4))
    with DeviceFlow():
        head = options.head(5)
        assert head is not None
        head = head.double().to(DEVICE)
        embeddings, clips = leaves(options, slice(None), target=False), CLIPS_OF.to(DEVICE)
    with DeviceFlow(within_step=True):
        embeddings = head(embeddings, [embeddings.image, embeddings.image.flip(2)], clips.valid)
        terms = global_loss(embeddings, clips, options, World(device=DEVICE))
        terms.loss.backward()
        assert {gradient_of(p).device for p in head.parameters()} == {DEVICE}


def alone(world: World, rows: slice) -> None:
    """The loss as a module, told of its clips on the host, on the device, and not at all."""
    names = ("labels", "confidence", "soft", "valid")
    values = (CLIPS_OF.label, CLIPS_OF.confidence, CLIPS_OF.soft, CLIPS_OF.valid)
    known = {name: value[rows] for name, value in zip(names, values, strict=True) if value is not None}
    units = leaves(LossOptions(), rows, target=False)
    for positives in ("soft-overlap", "confidence-weighted"):
        contrast = AudioVisualContrast(
            "max", positives, learn_temperature=True, normalize=False, world=world
        ).to(DEVICE)
        for given in (
            known,
            {name: value.to(DEVICE) for name, value in known.items()},
            {"soft": known["soft"]},
        ):
            contrast(units.image, units.audio, **given).backward()
        assert gradient_of(contrast.scalars["logit_scale"]).device == DEVICE


@pytest.mark.filterwarnings("ignore:AudioVisualContrast. positives .* got no labels")
def test_the_loss_alone_reads_what_it_checks_and_takes_labels_from_the_host() -> None:
    with DeviceFlow(LOSS_ALONE) as flow:
        world = World.current(DEVICE)
        alone(world, slice(None))
    assert world.device == DEVICE
    assert flow.crossed == LOSS_ALONE.keys()
