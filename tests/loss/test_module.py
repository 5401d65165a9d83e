"""Promise 17: the loss alone, in a training loop of one's own, on any number of ranks."""

from __future__ import annotations

import inspect
import warnings
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from cacl.errors import UserError
from cacl.loss import AudioVisualContrast, LossOptions, options
from cacl.loss.objectives import SupCon
from cacl.loss.similarities import MaxSimilarity
from cacl.options import parse
from cacl.types import ClipLabels
from cacl.world import World
from tests.helpers.ranks import run_ranks
from tests.loss.batches import embed, random_clips, random_parameters
from tests.loss.oracle import oracle

pytestmark = pytest.mark.filterwarnings("ignore:AudioVisualContrast. positives .* got no labels")
N = 12


def names(union: object) -> list[str]:
    """Return the names of a union's choices."""
    return [part.name for part in get_args(get_args(union)[0])]


SIMILARITIES, POSITIVES = names(options.SimilarityOptions), names(options.PositivesOptions)
OBJECTIVES = [name for name in names(options.ObjectiveOptions) if name != "sspl"]


def batch(similarity: str = "max", n: int = N):
    """Return raw vectors with the heads that a similarity needs, and what is known of their clips."""
    maps, audio, _ = random_parameters(n, 2 if similarity == "attention" else 1)
    if similarity != "attention":
        maps, audio = maps[:, 0], audio[:, 0]
    return maps.requires_grad_(), audio.requires_grad_(), random_clips(n, invalid=[3])


def known(clips: ClipLabels, rows: slice = slice(None)) -> dict[str, torch.Tensor]:
    """Return clips as the module's arguments."""
    assert clips.soft is not None
    fields = {"labels": clips.label, "confidence": clips.confidence, "soft": clips.soft, "valid": clips.valid}
    return {name: value[rows] for name, value in fields.items()}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_value_and_gradient_are_the_formulas_by_every_name(similarity, objective):
    """Every similarity and objective by name, with the positives in turn."""
    for positives in POSITIVES:
        if (similarity, positives) == ("attention", "false-negatives"):
            continue  # needs a threshold below 0
        maps, audio, clips = batch(similarity)
        contrast = AudioVisualContrast(similarity, positives, objective, 0.2).double()
        loss = contrast(maps, audio, **known(clips), step=2)
        whole = (maps, audio) if similarity == "attention" else (maps.unsqueeze(1), audio.unsqueeze(1))
        embeddings = embed(whole[0], whole[1], dict(contrast.scalars.items()))
        expected = oracle(embeddings, clips, contrast.options, step=2)
        inputs = [maps, audio, *contrast.parameters()]
        torch.testing.assert_close(loss, expected)
        for found, wanted in zip(
            torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_parts_are_names_mappings_or_dataclasses_and_defaults_those_of_a_recipe():
    by_name = AudioVisualContrast("max", "own-clip", {"name": "supcon", "average": "in"}, regularizers="fnac")
    by_class = AudioVisualContrast(
        MaxSimilarity(), {"name": "own-clip"}, SupCon(average="in"), regularizers=[options.Fnac()]
    )
    assert by_name.options == by_class.options
    signature = inspect.signature(AudioVisualContrast).parameters
    plain = {"temperature", "direction", "learn_temperature", "minimum_temperature", "memory_mib", "kernel"}
    for name in plain:
        assert signature[name].default == getattr(LossOptions(), name)
    assert "max × own-clip × supcon × fnac" in repr(by_name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"similarity": {"name": "best"}},
        {"objective": {"name": "infonce", "margin": 1}},
        {"objective": {"name": "sigmoid"}, "direction": "both"},
        {"temperature": -1.0},
        {"positives": {"name": "curriculum", "steps": 0}},
    ],
)
def test_parts_are_refused_in_the_words_of_a_recipe(wrong):
    given = {"similarity": {"name": "max"}, **wrong}
    with pytest.raises(UserError) as of_recipe:
        parse(LossOptions, given, "AudioVisualContrast")
    with pytest.raises(UserError) as of_module:
        AudioVisualContrast(**given)
    assert str(of_module.value) == str(of_recipe.value)


def test_an_objective_with_a_head_in_the_model_is_refused():
    with pytest.raises(
        UserError, match=r"objective sspl learns a head inside the model; train it from a rec"
    ):
        AudioVisualContrast(objective="sspl")


GENERATOR = torch.Generator().manual_seed(0)
MAPS, AUDIO = torch.randn(4, 9, 8, generator=GENERATOR), torch.randn(4, 8, generator=GENERATOR)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((MAPS[0], AUDIO), r"image has shape \(9, 8\), expected \[n, P, D\], or \[n, H, P, D\]"),
        ((MAPS[:, :0], AUDIO), r"image has shape \(4, 0, 8\), expected \[n, P, D\]"),
        ((MAPS, AUDIO[:3]), r"audio has shape \(3, 8\), expected \(4, 8\) to fit image \(4, 9, 8\)$"),
        ((MAPS, AUDIO[:, :5]), r"audio has shape \(4, 5\), expected \(4, 8\)"),
        ((MAPS[..., None], AUDIO), r"audio .* expected \(4, 9, 1\) .*; give a map \[n, D, h, w\] as map.fl"),
        ((MAPS, AUDIO, torch.zeros(3).long()), r"labels has shape \(3,\), expected \(4,\)"),
        ((MAPS, AUDIO, torch.zeros(4)), r"labels has dtype torch.float32, expected integers"),
        ((MAPS, AUDIO, None, torch.ones(4, 1)), r"confidence has shape \(4, 1\), expected \(4,\)"),
        ((MAPS, AUDIO.numpy()), "audio is a ndarray, expected a tensor"),
        ((MAPS, AUDIO.to("meta")), "audio is on meta, image on cpu; move one of them"),
        ((MAPS.long(), AUDIO), "image has dtype torch.int64, expected a floating one"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, sentence):
    with pytest.raises(UserError, match=f"^AudioVisualContrast: {sentence}"):
        AudioVisualContrast()(*arguments)


def test_masks_soft_labels_heads_and_bounds_of_labels_are_checked():
    with pytest.raises(UserError, match=r"valid has dtype torch.int64, expected bool"):
        AudioVisualContrast()(MAPS, AUDIO, valid=torch.ones(4).long())
    with pytest.raises(UserError, match=r"soft has shape \(3, 2\), expected \(4, 2\)"):
        AudioVisualContrast()(MAPS, AUDIO, soft=torch.ones(3, 2))
    with pytest.raises(UserError, match="soft-overlap needs soft labels, and there are none"):
        AudioVisualContrast(positives="soft-overlap")(MAPS, AUDIO)
    with pytest.raises(UserError, match=r"attention needs 2 head\(s\) \(model.heads\), got 1"):
        AudioVisualContrast("attention")(MAPS, AUDIO)
    bounded = AudioVisualContrast(positives={"name": "same-class", "number_of_classes": 2})
    with pytest.raises(UserError, match="there is the label 2, not below 2; set 3 or more"):
        bounded(MAPS, AUDIO, torch.tensor([0, 1, 2, -1]))
    bounded(MAPS, AUDIO, torch.tensor([0, 1, 1, -7]))  # below 0 is unknown


@pytest.mark.parametrize(("dtype", "deviation"), [(torch.float32, 0.002), (torch.bfloat16, 0.03)])
def test_vectors_that_are_not_normalized_must_have_unit_length(dtype, deviation):
    maps, audio = (F.normalize(x, dim=-1).to(dtype) for x in (MAPS, AUDIO))
    labels = torch.tensor([0, 0, 1, 2])
    as_they_are, normalized = (AudioVisualContrast(normalize=normalize) for normalize in (False, True))
    torch.testing.assert_close(
        as_they_are(maps, audio, labels), normalized(maps, audio, labels), rtol=0.02, atol=0
    )
    maps[2, 5] *= 1 + deviation
    with pytest.raises(
        UserError, match=r"image has vectors whose length differs from 1 by up to 0\.0\d+, mo"
    ):
        as_they_are(maps, audio, labels)
    with pytest.raises(UserError, match="audio has vectors whose length differs from 1 by up to nan"):
        as_they_are(F.normalize(MAPS, dim=-1), AUDIO * float("nan"))


def loss_that_warns_once(contrast: AudioVisualContrast, sentence: str) -> torch.Tensor:
    """Return the loss of the clips; assert that the first call alone warns, and of this file."""
    with pytest.warns(UserWarning, match=sentence) as warned:
        loss = contrast(MAPS, AUDIO)
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert contrast(MAPS, AUDIO) == loss
    return loss


def test_clips_without_labels_are_classes_of_their_own_and_that_is_said_once():
    contrast = AudioVisualContrast()
    loss = loss_that_warns_once(contrast, "positives same-class got no labels")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = AudioVisualContrast(positives="own-clip")(MAPS, AUDIO)
        contrast(MAPS, AUDIO, torch.zeros(4).long())
    assert loss == own


def test_scores_that_a_device_does_not_compute_are_float32_and_that_is_said_once():
    asked = AudioVisualContrast(positives="own-clip", scores="tf32")
    loss = loss_that_warns_once(asked, "tf32 needs an NVIDIA GPU .* scores are float32 on cpu$")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AudioVisualContrast(positives="own-clip", scores="bfloat16")(MAPS, AUDIO)
    assert loss == AudioVisualContrast(positives="own-clip")(MAPS, AUDIO)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    maps, audio = MAPS.to(dtype).requires_grad_(), AUDIO.to(dtype)
    labels = torch.tensor([0, 0, 1, 2])
    contrast = AudioVisualContrast(learn_temperature=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = contrast(maps, audio, labels)
    loss.backward()
    assert maps.grad is not None and maps.grad.dtype == dtype
    assert loss.dtype == torch.float32
    assert loss == contrast(maps.float(), audio.float(), labels)


def test_learned_scalars_are_parameters_and_come_back_within_their_bounds():
    contrast = AudioVisualContrast(objective={"name": "sigmoid", "bias": -3.0}, learn_temperature=True)
    assert {name: round(p.item(), 4) for name, p in contrast.named_parameters()} == {
        "scalars.logit_scale": 2.6593,
        "scalars.bias": -3.0,
    }
    with torch.no_grad():
        contrast.scalars["logit_scale"].fill_(9.0)
    losses = contrast(MAPS, AUDIO) + contrast(MAPS, AUDIO)  # two forwards, then one backward
    assert contrast.scalars["logit_scale"].item() == pytest.approx(4.6052, abs=1e-4)
    losses.backward()
    assert all(p.grad != 0 for p in contrast.parameters())


class Model(torch.nn.Module):
    """Vectors from raw maps and sounds, by two weights."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        for name in ("image", "audio"):
            weight = torch.randn(5, 5, generator=generator, dtype=torch.float64)
            self.register_parameter(name, torch.nn.Parameter(weight))

    def forward(self, maps, audio):
        return maps @ self.image, audio @ self.audio


CHOICES = [
    {"learn_temperature": True, "direction": "both"},
    {"objective": "sigmoid", "learn_temperature": True, "normalize": True},
    {"similarity": "mean", "objective": "contrast"},
    {"similarity": "mean", "positives": "soft-overlap", "regularizers": "fnac"},
]


def own_loop(world: World, choice: dict, shares: tuple[int, ...]) -> list[torch.Tensor]:
    """Train three steps by SGD as anybody would; the loss outside of DDP. Return losses and weights."""
    contrast = AudioVisualContrast(temperature=0.3, **choice).double()
    model: torch.nn.Module = Model()
    parameters = [*model.parameters(), *contrast.parameters()]
    if world.size > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    rows = slice(sum(shares[: world.rank]), sum(shares[: world.rank + 1]))
    losses = []
    for step in range(3):
        maps, audio, _ = random_parameters(N, seed=step)
        facts = known(random_clips(N, seed=step, invalid=[2]), rows)
        loss = contrast(*model(maps[rows, 0], audio[rows, 0]), **facts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*losses, *(p.detach() for p in parameters)]


@pytest.mark.parametrize("shares", [(6, 6), (4, 8), (12, 0)], ids=str)
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_an_own_loop_on_two_ranks_ends_with_the_weights_of_one_process(choice, shares):
    alone = own_loop(World(), choice, (N,))
    assert not torch.equal(alone[3], next(Model().parameters()))
    for found in run_ranks(2, own_loop, choice, shares):
        torch.testing.assert_close(found, alone, rtol=1e-10, atol=1e-12)


def in_one_process(world: World) -> float:
    return AudioVisualContrast(world=World())(MAPS, AUDIO, torch.tensor([0, 0, 1, 2])).item()


def test_a_world_may_be_named():
    assert run_ranks(2, in_one_process) == [in_one_process(World())] * 2


def refused_on_one(world: World, case: str) -> str:
    n, channels = (3, 8) if case == "channels" and world.rank else (4, 7) if world.rank else (4, 8)
    audio = AUDIO if case == "shapes" and world.rank else AUDIO[:n, :channels]
    with pytest.raises(UserError) as error:
        AudioVisualContrast()(MAPS[:n, :, :channels], audio)
    return str(error.value)


def test_what_one_rank_gives_wrongly_is_refused_on_all_and_none_waits():
    shapes = set(run_ranks(2, refused_on_one, "shapes"))
    assert shapes == {
        "AudioVisualContrast: rank 1: audio has shape (4, 8), expected (4, 7) to fit image (4, 9, 7)"
    }
    widths = set(run_ranks(2, refused_on_one, "widths"))
    assert widths == {"AudioVisualContrast: D is 8 on rank 0 and 7 on rank 1; make it equal"}


def test_heads_have_an_axis_of_their_own():
    labels = torch.tensor([0, 0, 1, 2])
    one = AudioVisualContrast()(MAPS, AUDIO, labels)
    two = AudioVisualContrast()(torch.stack([MAPS, MAPS], 1), torch.stack([AUDIO, AUDIO], 1), labels)
    assert one.shape == () and one == pytest.approx(two.item(), rel=1e-6)
