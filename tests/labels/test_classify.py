"""Labels are the same from any number of ranks and after a kill; the fast classifier is the plain one."""

import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision

from cacl.errors import UserError
from cacl.labels.classifier import build_classifier
from cacl.labels.classify import ClassifyFrames, look, predictions
from cacl.labels.regions import crop_boxes, object_region, upper_half_box
from cacl.model.weights import TORCHVISION, efficientnet_file
from cacl.resumable import UNIT, resumable_map
from cacl.types import Batch
from cacl.world import World
from tests.helpers.ranks import run_ranks


def frames(index, size=64):
    """Noise that is a function of the clip only: no class is likely, so best and second lie close together."""
    images = []
    for i in index:
        generator = torch.Generator().manual_seed(int(i))
        coarse = torch.randint(0, 256, (1, 3, 8, 8), generator=generator).float()
        images.append(torch.nn.functional.interpolate(coarse, (size, size))[0].byte())
    return torch.stack(images)


def batches(indices, broken=()):
    for start in range(0, len(indices), UNIT):
        index = torch.as_tensor(indices[start : start + UNIT])
        valid = torch.tensor([int(i) not in broken for i in index])
        yield Batch(index, frames(index), torch.zeros(len(index), 8), valid)


def indices(n=2 * UNIT + 5):
    return np.arange(n, dtype=np.int64) * 3 + 1


def label(world, folder, soft=True):
    work = ClassifyFrames(build_classifier("efficientnet-lite0"), soft=soft)
    return resumable_map(indices(), batches, work, Path(folder), {"a": 1}, world)


def test_any_number_of_ranks_gives_the_same_labels(tmp_path):
    alone = label(World(), tmp_path / "1")
    for size in (2, 4):
        together, *others = run_ranks(size, label, str(tmp_path / str(size)))
        assert others == [None] * (size - 1)
        for name, rows in alone.items():
            np.testing.assert_array_equal(together[name], rows, err_msg=f"{size} ranks: {name}")
    gap = alone["top_probability"][:, 0] - alone["top_probability"][:, 1]
    assert gap.min() < 1e-3, "no near ties among these clips"
    assert len(alone["index"]) == len(indices()) and alone["soft"].shape == (len(indices()), 1000)


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_with_the_units_that_are_left(tmp_path):
    work = ClassifyFrames(build_classifier("efficientnet-lite0"))
    seen: list[int] = []

    def dies(batch):
        if len(seen) == 2:
            raise Killed
        seen.append(batch.index[0].item())
        return work(batch)

    def rest(batch):
        seen.append(batch.index[0].item())
        return work(batch)

    with pytest.raises(Killed):
        resumable_map(indices(), batches, dies, tmp_path / "parts", {"a": 1}, World())
    resumed = resumable_map(indices(), batches, rest, tmp_path / "parts", {"a": 1}, World())
    assert seen == indices()[::UNIT].tolist()
    whole = resumable_map(indices(), batches, work, tmp_path / "whole", {"a": 1}, World())
    assert whole is not None and resumed is not None, "the main rank has the arrays"
    for name, rows in whole.items():
        np.testing.assert_array_equal(resumed[name], rows)


def killed_then_resumed(world, folder):
    """Rank 0 alone leaves one unit of three behind; then all ranks take the rest."""
    work = ClassifyFrames(build_classifier("efficientnet-lite0"), soft=True)
    if world.is_main:
        resumable_map(indices(), batches, work, Path(folder), {"a": 1}, World())
        for number in (0, 2):
            (unit,) = Path(folder).rglob(f"unit-{number:07d}.npz")
            unit.unlink()
    world.barrier()
    done = []

    def counts(batch):
        done.append(int(batch.index[0]))
        return work(batch)

    return resumable_map(indices(), batches, counts, Path(folder), {"a": 1}, world), done


def test_ranks_share_what_a_killed_run_left(tmp_path):
    (resumed, first), (_, second) = run_ranks(2, killed_then_resumed, str(tmp_path / "parts"))
    # Dealt by number, units 0 and 2 would both be rank 0's.
    assert (first, second) == ([int(indices()[0])], [int(indices()[2 * UNIT])])
    for name, rows in label(World(), tmp_path / "whole").items():
        np.testing.assert_array_equal(resumed[name], rows, err_msg=name)


def test_another_classifier_starts_anew(tmp_path):
    work = ClassifyFrames(build_classifier("efficientnet-lite0"))
    few = indices(3)
    resumable_map(few, batches, work, tmp_path, {"weights": "a"}, World())
    called = []

    def spy(batch):
        called.append(len(batch.index))
        return work(batch)

    resumable_map(few, batches, spy, tmp_path, {"weights": "a"}, World())
    assert called == []
    resumable_map(few, batches, spy, tmp_path, {"weights": "b"}, World())
    assert called == [3]


def test_clips_that_cannot_be_decoded_get_no_label(tmp_path):
    work = ClassifyFrames(build_classifier("efficientnet-lite0"))
    broken = (int(indices()[1]),)
    arrays = resumable_map(indices(5), lambda some: batches(some, broken), work, tmp_path, {}, World())
    assert arrays is not None and arrays["index"].tolist() == [1, 7, 10, 13]
    assert len(arrays["label"]) == 4


def test_a_prediction_that_is_not_finite_names_the_clip():
    classifier = build_classifier("efficientnet-lite0")
    with torch.no_grad():
        classifier.network.get_parameter("classifier.weight")[5, 7] = float("nan")
    (batch,) = batches(np.array([12, 15]))
    with pytest.raises(
        UserError, match=r"clip 12: .* the classifier efficientnet-lite0 gives what is not a finite"
    ):
        ClassifyFrames(classifier)(batch)


def test_of_equal_probabilities_the_lower_class_is_the_label():
    probability = torch.tensor([[0.1, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.5]])
    found = predictions(probability, soft=False)
    assert found["label"].tolist() == [1, 3]
    assert found["top"].tolist() == [[1, 2, 3, 0, 4], [3, 6, 0, 1, 2]]
    np.testing.assert_array_equal(found["confidence"], found["top_probability"][:, 0])


def test_the_packaged_weights_classify_as_plain_timm_does():
    network = timm.create_model("tf_efficientnet_lite0")
    state = torch.load(efficientnet_file(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    images = frames(range(0, 24, 4), 96)
    with torch.no_grad():
        expected = network.eval()((images / 255 - 0.5) / 0.5).softmax(1)
    _, _, found = build_classifier("efficientnet-lite0")(images / 255)
    # Folding BatchNorm rounds in another place: float32 over some fifty layers.
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_torchvisions_networks_load_the_users_file_and_give_its_logits(tmp_path, name):
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)().eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    images = frames(range(0, 8, 4), 96)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = network((images / 255 - mean) / std).softmax(1)
    _, _, found = build_classifier(name, str(tmp_path / "w.pth"))(images / 255)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet18", None, "--weights: name the file.*ResNet18_Weights"),
        ("alexnet", "nowhere.pth", "no file 'nowhere.pth'.*AlexNet_Weights"),
        ("densenet", None, "unknown; choose one of efficientnet-lite0"),
        ("timm:resnet1", "x", "timm knows no 'resnet1'"),
        ("timm:resnet10t", None, r"--weights: name the file.*timm\.get_pretrained_cfg\('resnet10t'\)"),
    ],
)
def test_what_is_missing_is_said_with_the_way_to_get_it(name, weights, message):
    with pytest.raises(UserError, match=message):
        build_classifier(name, weights)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(torchvision.models.alexnet().state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: these weights are of another network"):
        build_classifier("resnet18", str(tmp_path / "w.pth"))


def test_a_weights_file_is_never_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save({"a": Evil()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="not a state dict that torch can read safely"):
        build_classifier("resnet18", str(tmp_path / "w.pth"))
    assert not (tmp_path / "executed").exists()


def test_views_are_averaged():
    classifier = build_classifier("efficientnet-lite0")
    (batch,) = batches(np.array([4, 8]))
    views = look(batch.images / 255, "crops")
    assert len(views) == 6 and all(view.shape == batch.images.shape for view in views)
    assert torch.equal(views[1], views[0].flip(-1))
    expected = torch.stack([classifier(view)[2] for view in views]).mean(0)
    found = ClassifyFrames(classifier, views="crops", soft=True)(batch)
    np.testing.assert_allclose(found["soft"], expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(found["label"], expected.argmax(1).numpy())
    np.testing.assert_array_equal(found["top"][:, 0], found["label"])


def test_the_region_is_the_box_around_the_upper_half_of_the_map():
    heat = torch.zeros(2, 7, 7)
    heat[0, 2:4, 5] = 1.0
    heat[0, 0, 0] = 0.4
    boxes = upper_half_box(heat) * 7
    torch.testing.assert_close(boxes[0], torch.tensor([5.0, 2.0, 6.0, 4.0]))
    torch.testing.assert_close(boxes[1], torch.tensor([0.0, 0.0, 7.0, 7.0]))


def test_a_region_is_cut_out_and_stretched():
    pixels = torch.rand(2, 3, 32, 32)
    pixels[0, :, :16, 16:] = 0.25
    boxes = torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.0, 0.0, 1.0, 1.0]])
    found = crop_boxes(pixels, boxes)
    assert found.shape == pixels.shape
    torch.testing.assert_close(found[0, :, :30, 2:], torch.full((3, 30, 30), 0.25))
    assert (found[1] - pixels[1]).abs().mean() < 0.15


def test_object_guidance_changes_what_is_seen():
    (batch,) = batches(np.array([4, 8, 40]))
    classifier = build_classifier("efficientnet-lite0")
    whole = ClassifyFrames(classifier, soft=True)(batch)["soft"]
    guided = ClassifyFrames(classifier, region=object_region, soft=True)(batch)["soft"]
    maps, _, _ = classifier(batch.images / 255)
    expected = classifier(crop_boxes(batch.images / 255, object_region(maps, batch)))[2]
    np.testing.assert_allclose(guided, expected.numpy(), atol=1e-6)
    assert not np.allclose(guided, whole)
