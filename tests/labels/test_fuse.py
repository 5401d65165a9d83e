"""Clusters and fusion on data with known causes: what is shared is found, what is not is ignored."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from cacl.labels import cluster as clustering
from cacl.labels.fuse import fuse, shared_space, views_of_classes
from cacl.labels.pseudo_classes import cluster_table, views_of_tables
from cacl.labels.quality import compare
from cacl.labels.relabel import changes, relabel, vote
from cacl.labels.table import LabelHeader, LabelTable

CLASSES, CLIPS = 12, 1200


@pytest.fixture(scope="module")
def clips():
    """Two views of one hidden class.

    The sound is noisy, the image shows another object beside the one that is heard, and both have strong
    directions that the class does not explain.
    """
    random = np.random.default_rng(0)
    truth = random.integers(0, CLASSES, CLIPS)
    other = random.integers(0, CLASSES, CLIPS)
    look, voice = random.normal(size=(CLASSES, 30)), random.normal(size=(CLASSES, 20))
    image = look[truth] + look[other] + 0.3 * random.normal(size=(CLIPS, 30))
    audio = voice[truth] + 1.5 * random.normal(size=(CLIPS, 20))
    image = np.concatenate([image, 5 * random.normal(size=(CLIPS, 10))], 1) @ random.normal(size=(40, 60))
    audio = np.concatenate([audio, 5 * random.normal(size=(CLIPS, 10))], 1) @ random.normal(size=(30, 40))
    return truth, image, audio


def test_fused_labels_are_better_than_either_view(clips):
    truth, image, audio = clips
    fused = compare(fuse(image, audio, CLASSES).clustering.label, truth)
    alone = [
        compare(clustering.cluster(clustering.whiten(view, 30), CLASSES).label, truth)
        for view in (image, audio)
    ]
    assert fused["pair_f1"] > max(view["pair_f1"] for view in alone) + 0.05


def test_classes_that_exclude_each_other_fuse_with_classes_that_do_not():
    """ImageNet's with AudioSet's: the frame's one class is often another object's, several events sound."""
    random = np.random.default_rng(0)
    truth, other = random.integers(0, CLASSES, (2, CLIPS))
    seen = random.permutation(40)[np.where(random.random(CLIPS) < 0.6, truth, other)]
    # Log-odds: a class sounds as two events, one of which another class shares; some sound at any time.
    odds, rows = random.normal(-8, 1, (CLIPS, 30)), np.arange(CLIPS)
    for event in (truth, 12 + truth // 2):
        odds[rows, event] += 5
    odds[:, 28:] += 8
    heard = (1 / (1 + np.exp(-odds))).astype(np.float16)
    sure = heard.max(1).astype(np.float32)
    header = LabelHeader("x", "", "f" * 64, 40)
    frames = LabelTable(rows, seen, np.ones(CLIPS, np.float32), header)
    sounds = LabelTable(rows, heard.argmax(1), sure, header, probability=heard)
    hard = LabelTable(rows, heard.argmax(1), sure, header)

    def fused(sounds):
        index, views = views_of_tables(frames, sounds)
        return compare(cluster_table(index, views, header, clusters=CLASSES).label, truth)["pair_f1"]

    alone = [compare(table.label, truth)["pair_f1"] for table in (frames, sounds)]
    assert fused(sounds) > max(*alone, fused(hard)) + 0.05


def test_what_the_views_do_not_share_has_no_weight(clips):
    _, image, audio = clips
    space = shared_space(image, audio)
    assert space.correlation[:5].min() > 0.25
    broken = shared_space(image, np.random.default_rng(1).permutation(audio))
    # Correlations of 600 unrelated clips have a deviation of 1 / sqrt(600) = 0.04.
    assert broken.correlation.max() < 0.16
    assert (broken.correlation**2).sum() < 0.1 * (space.correlation**2).sum()


def test_a_direction_weighs_as_much_as_the_views_share_of_it(clips):
    """White coordinates times a weight: the variance of a direction is its held-out correlation."""
    _, image, audio = clips
    space = shared_space(image, audio)
    for view in (space.image, space.audio):
        np.testing.assert_allclose(view.var(0, ddof=1), space.correlation, rtol=1e-6)
        np.testing.assert_allclose(view.mean(0), 0, atol=1e-9)
    assert space.correlation[0] > 2 * space.correlation[-1]
    np.testing.assert_allclose(space.joint, (space.image + space.audio) / 2)


def test_clusters_are_gaussians_of_one_variance_around_their_centers(clips):
    _, image, _ = clips
    vectors = image[:200, :6]
    found = clustering.cluster(vectors, 5)
    variance, dimensions = 0.0, vectors.shape[1]
    for vector in vectors:
        variance += (
            min(((vector - center) ** 2).sum() for center in found.centers) / dimensions / len(vectors)
        )
    assert found.variance == pytest.approx(variance)
    for vector, label, soft in zip(vectors, found.label, found.soft, strict=True):
        density = [multivariate_normal(center, variance).pdf(vector) for center in found.centers]
        np.testing.assert_allclose(soft, np.array(density) / sum(density), atol=1e-5)
        assert label == np.argmax(density)
    assert found.soft.max(1).min() < 0.9, "the case has clips between two centers"


def test_confidence_is_higher_where_labels_are_right(clips):
    truth, image, audio = clips
    fusion = fuse(image, audio, clusters=CLASSES)
    label, confidence = fusion.clustering.label, fusion.confidence
    mostly = np.array([np.bincount(truth[label == k], minlength=CLASSES).argmax() for k in range(CLASSES)])
    right = mostly[label] == truth
    assert 0.5 < right.mean() < 1.0
    assert confidence[right].mean() > confidence[~right].mean() + 0.1
    assert confidence.min() >= 0 and confidence.max() <= 1
    np.testing.assert_allclose(fusion.clustering.soft.sum(1), 1, atol=1e-5)


def test_the_number_of_clusters_is_found_without_labels():
    random = np.random.default_rng(3)
    truth = random.integers(0, 27, 800)
    vectors = random.normal(size=(27, 16))[truth] + 0.25 * random.normal(size=(800, 16))
    found = clustering.cluster(vectors)
    assert 21 <= len(found.centers) <= 37, found.stability
    assert compare(found.label, truth)["pair_f1"] > 0.85


def test_of_numbers_that_are_as_stable_the_largest_is_taken():
    """Two pairs of groups: two clusters are found again as surely as four, and seven are not."""
    random = np.random.default_rng(0)
    centers = np.array([[0.0, 0.0], [0.0, 10.0], [100.0, 0.0], [100.0, 10.0]])
    vectors = np.repeat(centers, 50, axis=0) + 0.1 * random.normal(size=(200, 2))
    number, stability = clustering.choose_clusters(vectors, [2, 4, 7])
    assert (stability[2], stability[4], number) == (1.0, 1.0, 4)
    assert stability[7] < 0.9, "not every number is stable"


def test_the_seed_decides_the_labels(clips):
    _, image, audio = clips
    first, again, other = (fuse(image, audio, 15, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.clustering.label, again.clustering.label)
    np.testing.assert_array_equal(first.confidence, again.confidence)
    assert not np.array_equal(first.clustering.label, other.clustering.label)


def test_columns_scale_does_not_matter(clips):
    _, image, audio = clips
    scale = np.random.default_rng(0).uniform(0.1, 10, image.shape[1])
    label = [fuse(view, audio, CLASSES).clustering.label for view in (image, image * scale + 3)]
    # Rounding of another scale may move clips that lie between two centers.
    assert compare(label[0], label[1])["pair_f1"] > 0.95


def test_predictions_with_different_class_lists_are_aligned_by_co_occurrence():
    random = np.random.default_rng(2)
    truth = random.integers(0, 8, 800)
    image = np.where(random.random(800) < 0.6, truth * 3, random.integers(0, 24, 800))
    audio = np.where(random.random(800) < 0.8, 100 - truth, 100 - random.integers(0, 8, 800))
    fused = fuse(views_of_classes(image, None), views_of_classes(audio, None), clusters=8)
    best = max(compare(view, truth)["pair_f1"] for view in (image, audio))
    assert compare(fused.clustering.label, truth)["pair_f1"] > best


@pytest.mark.parametrize("n", [4, 9, 40])
def test_few_clips_and_constant_columns_are_no_error(n):
    random = np.random.default_rng(n)
    image, audio = random.normal(size=(n, 6)), random.normal(size=(n, 5))
    image[:, 2] = 7.0
    fusion = fuse(image, audio)
    assert len(fusion.clustering.label) == n and np.isfinite(fusion.confidence).all()


def test_voting_is_what_a_loop_over_neighbors_counts():
    random = np.random.default_rng(0)
    vectors, label = random.normal(size=(40, 5)), random.integers(-1, 4, 40)
    confidence = random.random(40).astype(np.float32)
    found = vote(vectors, label, confidence, neighbors=6)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for i in range(40):
        cosine = [(-unit[i] @ unit[j], j) for j in range(40) if j != i]
        votes: dict[int, float] = {}
        for negative, j in sorted(cosine)[:6]:
            voice = confidence[j] if label[j] >= 0 else 0.0
            votes[label[j]] = votes.get(label[j], 0.0) + max(-negative, 0.0) * voice
        best = max(votes.values())
        expected = max(votes, key=lambda name: votes[name]) if best > 0 else label[i]
        assert found.label[i] == expected
        total = sum(votes.values()) if best > 0 else 1.0
        assert found.share[i] == pytest.approx(best / total, rel=1e-5)
        assert found.own[i] == pytest.approx(votes.get(label[i], 0.0) / total, rel=1e-5)


def test_a_relabeled_clips_confidence_is_the_share_of_the_vote_for_the_label_that_it_has():
    """Three neighbors alike, of labels 1, 2 and 3: whoever keeps a label that few share is not sure of it."""
    vectors = np.ones((4, 2))
    label, confidence = np.array([1, 1, 2, 3]), np.ones(4, np.float32)
    after, found = relabel(vectors, label, confidence, neighbors=3, majority=0.7)
    np.testing.assert_array_equal(after, label)
    np.testing.assert_allclose(found, [1 / 3, 1 / 3, 0, 0], rtol=1e-6)
    after, found = relabel(vectors, label, confidence, neighbors=3, majority=0.6)
    np.testing.assert_array_equal(after, [1, 1, 1, 1])
    np.testing.assert_allclose(found, [1 / 3, 1 / 3, 2 / 3, 2 / 3], rtol=1e-6)


def test_a_clip_that_nobody_votes_for_is_not_sure_of_its_label():
    """Neighbors without a label have no voice, and a clip without one gets none by staying without."""
    label = np.array([4, -1, -1])
    after, found = relabel(np.ones((3, 2)), label, np.ones(3, np.float32), neighbors=2, majority=1.0)
    np.testing.assert_array_equal(after, label)
    np.testing.assert_array_equal(found, [0, 0, 0])


def test_relabelling_repairs_wrong_labels():
    random = np.random.default_rng(1)
    truth = random.integers(0, 10, 600)
    vectors = random.normal(size=(10, 12))[truth] + 0.3 * random.normal(size=(600, 12))
    wrong = random.random(600) < 0.3
    label = np.where(wrong, random.integers(0, 10, 600), truth)
    after, confidence = relabel(vectors, label, np.ones(600, np.float32))
    assert (after == truth).mean() > 0.97 > 0.75 > (label == truth).mean()
    assert confidence[after == truth].mean() > confidence[after != truth].mean()
    kept, _ = relabel(vectors, label, np.ones(600, np.float32), majority=1.0)
    np.testing.assert_array_equal(kept, label)


def test_what_a_round_changed_is_counted():
    before, after = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 2, 2])
    found = changes(before, after, ["a", "b", "b", "b", "c", "c"])
    assert (found["clips"], found["changed"]) == (6, 3)
    assert found["moves"] == [{"from": 0, "to": 1, "clips": 2}, {"from": 1, "to": 2, "clips": 1}]
    assert found["after"]["pair_f1"] == 1.0 > found["before"]["pair_f1"]
    assert changes(before, before, None)["moves"] == []


def test_an_unknown_label_tells_nothing():
    np.testing.assert_array_equal(views_of_classes(np.array([4, -1, 2]), None), [[0, 1], [0, 0], [1, 0]])
