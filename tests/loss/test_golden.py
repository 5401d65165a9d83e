"""Values and gradients of public reference code and of the paper's equations; see tests/golden/README.md.

The files' gradients are with regard to the unit vectors, as the files' numbers themselves show.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cacl.loss import LossOptions, global_loss
from cacl.loss.objectives import InfoNCE
from cacl.loss.positives import OwnClip, SameClass
from cacl.loss.regularizers import Fnac
from cacl.loss.similarities import AttentionSimilarity, MaxSimilarity, TriMapSimilarity
from cacl.types import ClipLabels, Embeddings
from cacl.world import World
from tests.conftest import GOLDEN
from tests.helpers.gradients import gradient_of


def load(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as file:
        return {name: torch.as_tensor(file[name]).double() for name in file.files}


def unit_maps(image: torch.Tensor) -> torch.Tensor:
    """[N, D, H, W] as the reference codes have it → [N, 1, P, D] of unit length."""
    return F.normalize(image.flatten(2).transpose(1, 2)[:, None], dim=-1).requires_grad_()


def unit_audio(audio: torch.Tensor) -> torch.Tensor:
    """[N, D] → [N, 1, D] of unit length."""
    return F.normalize(audio, dim=-1)[:, None].requires_grad_()


def as_image(maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """[N, 1, P, D] → [N, D, H, W]."""
    return maps[:, 0].transpose(1, 2).reshape(like.shape)


def join_labels(labels: torch.Tensor) -> ClipLabels:
    n = len(labels)
    return ClipLabels(torch.arange(n), labels.long(), torch.ones(n), torch.ones(n, dtype=torch.bool))


def compare(golden: dict[str, torch.Tensor], name: str, value: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(
        value.double().reshape(golden[name].shape), golden[name], rtol=tolerance, atol=tolerance
    )


EXACT = 1e-10
SINGLE = 2e-5
"""The reference codes ran in float32 with temperatures of 0.03: logits of 30 carry errors of 30 * 2^-24 * terms."""


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("class_aware_eq3*.npz")))
def test_golden_class_aware_equations(path: Path) -> None:
    golden = load(path)
    embeddings = Embeddings(unit_maps(golden["img"]), unit_audio(golden["aud"]))
    clips = join_labels(golden["labels"])
    temperature = float(golden["tau"])

    def loss(positives: SameClass | OwnClip):
        options = LossOptions(positives=positives, temperature=temperature)
        return global_loss(embeddings, clips, options, World())

    terms = loss(SameClass())
    terms.loss.backward()
    compare(golden, "loss_class_aware", terms.mean, EXACT)
    compare(golden, "loss_instance", loss(OwnClip()).mean, EXACT)
    torch.testing.assert_close(
        terms.per_clip, F.softplus(golden["neg"] - golden["pos"]), rtol=EXACT, atol=EXACT
    )
    compare(golden, "grad_img", as_image(gradient_of(embeddings.image), golden["img"]), EXACT)
    compare(golden, "grad_aud", gradient_of(embeddings.audio), EXACT)


def own_clip_loss(embeddings: Embeddings, tau: torch.Tensor, **parts) -> torch.Tensor:
    options = LossOptions(positives=OwnClip(), objective=InfoNCE(), temperature=float(tau), **parts)
    terms = global_loss(embeddings, join_labels(torch.zeros(len(embeddings.audio))), options, World())
    terms.loss.backward()
    return terms.mean


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("ezvsl_loss*.npz")))
def test_golden_ezvsl(path: Path) -> None:
    golden = load(path)
    embeddings = Embeddings(unit_maps(golden["img"]), unit_audio(golden["aud"]))
    loss = own_clip_loss(embeddings, golden["tau"], similarity=MaxSimilarity(), direction="both")
    compare(golden, "loss", loss, SINGLE)
    compare(golden, "grad_img", as_image(gradient_of(embeddings.image), golden["img"]), SINGLE)
    compare(golden, "grad_aud", gradient_of(embeddings.audio), SINGLE)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("lvs_loss*.npz")))
def test_golden_lvs_with_its_quirk_of_the_diagonal(path: Path) -> None:
    golden = load(path)
    embeddings = Embeddings(unit_maps(golden["img"]), unit_audio(golden["aud"]))
    similarity = TriMapSimilarity(
        positive_threshold=float(golden["epsilon"]),
        negative_threshold=float(golden["epsilon2"]),
        softness=float(golden["tau"]),
        diagonal="times-minus-99",
    )
    loss = own_clip_loss(embeddings, torch.tensor(0.07), similarity=similarity)
    compare(golden, "loss", loss, SINGLE)
    compare(golden, "grad_img", as_image(gradient_of(embeddings.image), golden["img"]), SINGLE)
    compare(golden, "grad_aud", gradient_of(embeddings.audio), SINGLE)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("slavc_loss*.npz")))
def test_golden_slavc_with_targets(path: Path) -> None:
    golden = load(path)

    def two_heads(prefix: str) -> Embeddings:
        maps = [unit_maps(golden[f"{prefix}img{head}"]) for head in (1, 2)]
        audio = [unit_audio(golden[f"{prefix}aud{head}"]) for head in (1, 2)]
        return Embeddings(
            torch.cat(maps, 1).detach().requires_grad_(), torch.cat(audio, 1).detach().requires_grad_()
        )

    online, target = two_heads(""), two_heads("target_")
    target = Embeddings(target.image.detach(), target.audio.detach())
    embeddings = Embeddings(online.image, online.audio, target=target)
    loss = own_clip_loss(embeddings, golden["tau"], similarity=AttentionSimilarity())
    compare(golden, "loss", loss, SINGLE)
    for head in (0, 1):
        image = golden[f"img{head + 1}"]
        of_image = gradient_of(online.image)[:, head : head + 1]
        compare(golden, f"grad_img{head + 1}", as_image(of_image, image), SINGLE)
        compare(golden, f"grad_aud{head + 1}", gradient_of(online.audio)[:, head], SINGLE)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("fnac_loss*.npz")))
def test_golden_fnac(path: Path) -> None:
    golden = load(path)

    def loss(
        suppression_by_sound: float = 0.0, suppression_by_image: float = 0.0, enhancement: float = 0.0
    ) -> tuple[torch.Tensor, Embeddings]:
        embeddings = Embeddings(unit_maps(golden["img"]), unit_audio(golden["aud"]))
        fnac = Fnac(
            suppression_by_sound=suppression_by_sound,
            suppression_by_image=suppression_by_image,
            enhancement=enhancement,
        )
        parts = {"similarity": MaxSimilarity(), "direction": "both", "regularizers": (fnac,)}
        return own_clip_loss(embeddings, golden["tau"], **parts), embeddings

    contrastive, _ = loss()
    compare(golden, "loss_contrastive", contrastive, SINGLE)
    names = {
        "loss_fns1": "suppression_by_sound",
        "loss_fns2": "suppression_by_image",
        "loss_tns": "enhancement",
    }
    for name, weight in names.items():
        compare(golden, name, loss(**{weight: 1.0})[0] - contrastive, SINGLE)
    _, embeddings = loss(**dict.fromkeys(names.values(), 1.0))
    compare(golden, "grad_img_of_sum", as_image(gradient_of(embeddings.image), golden["img"]), SINGLE)
    compare(golden, "grad_aud_of_sum", gradient_of(embeddings.audio), SINGLE)
