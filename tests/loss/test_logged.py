"""The figures that training logs beside the loss are those of a plain count over clips, directions and views."""

from __future__ import annotations

import pytest
import torch

from cacl.loss import LossOptions, global_loss
from cacl.loss.objectives import InfoNCE
from cacl.loss.positives import ConfidenceWeighted, FalseNegatives, OwnClip, SameClass
from cacl.loss.similarities import AttentionSimilarity, MaxSimilarity, TriMapSimilarity
from cacl.loss.sspl import Sspl
from cacl.types import ClipLabels, Embeddings
from cacl.world import World
from tests.helpers.ranks import run_ranks
from tests.loss.batches import embed, random_clips, random_parameters, take
from tests.loss.combinations import heads_of
from tests.loss.oracle import SIMILARITY, weights

N, INVALID, STEP = 13, (1, 7), 3
SHARES = (4, 2, 7)
SUSPECTS = FalseNegatives(top=N, above=0.35)
"""An image suspects all sounds that are above: its row may lose its negatives, and the clip's column not."""

CASES = {
    "false negatives, both directions": LossOptions(
        similarity=MaxSimilarity(), objective=InfoNCE(), positives=SUSPECTS, direction="both"
    ),
    "false negatives, sounds": LossOptions(
        similarity=MaxSimilarity(), objective=InfoNCE(), positives=SUSPECTS, direction="audio-to-image"
    ),
    "class sums, both directions": LossOptions(direction="both", temperature=0.2),
    "class sums in messages": LossOptions(
        positives=SameClass(number_of_classes=2), direction="audio-to-image"
    ),
    "hard negatives beside the rows": LossOptions(
        similarity=TriMapSimilarity(softness=0.2), objective=InfoNCE(), positives=SameClass()
    ),
    "two views, attention": LossOptions(
        similarity=AttentionSimilarity(),
        objective=InfoNCE(),
        positives=ConfidenceWeighted(),
        learn_temperature=True,
        temperature=0.3,
    ),
}


def inputs(options: LossOptions) -> tuple[Embeddings, ClipLabels]:
    maps, audio, _ = random_parameters(N, heads_of(options), pixels=3, channels=4)
    others = random_parameters(N, heads_of(options), 3, 4, seed=9)[:2]
    scalars = {name: torch.tensor(value, dtype=torch.float64) for name, value in options.scalars().items()}
    units = embed(maps, audio, scalars)
    target = embed(*others) if options.learn_temperature else None
    return Embeddings(units.image, units.audio, scalars, target), random_clips(N, classes=2, invalid=INVALID)


def directions(options: LossOptions) -> list[tuple[list[list[float]], ...]]:
    """For every view and direction: scores, weights of positives and of negatives, a row a clip.

    What stands beside the rows of images is a negative.
    """
    embeddings, clips = inputs(options)
    target, found = embeddings.target, []
    views = [(embeddings.image, embeddings.audio)]
    if target is not None:
        views = [(embeddings.image, target.audio), (target.image, embeddings.audio)]
    for maps, audio in views:
        score, beside, _ = SIMILARITY[options.similarity.name](
            maps, audio, clips, 1 / options.temperature, options.similarity
        )
        matrices = (score, *weights(clips, score, options.positives, STEP))
        if options.direction in ("image-to-audio", "both"):
            more = (beside, torch.zeros_like(beside), torch.ones_like(beside))
            found.append(tuple(torch.cat(both, 1).tolist() for both in zip(matrices, more, strict=True)))
        if options.direction in ("audio-to-image", "both"):
            found.append(tuple(matrix.T.tolist() for matrix in matrices))
    return found


def plain_counts(options: LossOptions) -> dict[str, float]:
    clips = inputs(options)[1]
    label = clips.label.tolist()
    there = [i for i in range(N) if clips.valid[i]]
    without: dict[str, set[int]] = {"positives": set(), "negatives": set()}
    weight, similarity = {"positives": 0.0, "negatives": 0.0}, {"positives": 0.0, "negatives": 0.0}
    for score, *related in directions(options):
        for kind, weight_of in zip(("positives", "negatives"), related, strict=True):
            for i in there:
                columns = [j for j in range(len(score[i])) if j not in INVALID]
                pairs = [(weight_of[i][j], score[i][j]) for j in columns]
                weight[kind] += sum(w for w, _ in pairs)
                similarity[kind] += sum(w * s for w, s in pairs)
                if not any(w for w, _ in pairs):
                    without[kind].add(i)
    return {
        "valid": len(there),
        "same_class_pairs": sum(label[i] == label[j] >= 0 for i in there for j in there if i < j),
        "rows_without_positives": len(without["positives"]),
        "rows_without_negatives": len(without["negatives"]),
        "positive_similarity": similarity["positives"] / weight["positives"],
        "negative_similarity": similarity["negatives"] / weight["negatives"],
        "temperature": options.temperature,
    }


def logged(world: World, every: list[LossOptions], shares: tuple[int, ...]) -> list[dict[str, float]]:
    found = []
    for options in every:
        embeddings, clips = inputs(options)
        rows = slice(sum(shares[: world.rank]), sum(shares[: world.rank + 1]))
        target = embeddings.target
        mine = Embeddings(
            embeddings.image[rows],
            embeddings.audio[rows],
            embeddings.scalars,
            target and Embeddings(target.image[rows], target.audio[rows]),
        )
        counts = global_loss(mine, take(clips, rows), options, world, STEP, shares).logged
        found.append({name: float(value) for name, value in counts.items()})
    return found


def test_the_cases_tell_any_direction_from_every_one() -> None:
    """And weights of positives from those of negatives, and a valid clip from the others."""
    alone = []
    for _, _, negative in directions(CASES["false negatives, both directions"]):
        alone.append({i for i in range(N) if i not in INVALID and not any(negative[i])})
    assert alone[0] and alone[0] - alone[1]
    for name, options in CASES.items():
        counted = plain_counts(options)
        assert counted["same_class_pairs"] > 0 and counted["valid"] == N - len(INVALID)
        assert abs(counted["positive_similarity"] - counted["negative_similarity"]) > 0.01, name


@pytest.mark.parametrize("name", CASES)
def test_what_is_logged_is_a_plain_count(name: str) -> None:
    (found,) = logged(World(), [CASES[name]], (N,))
    assert found == pytest.approx(plain_counts(CASES[name]), rel=1e-9)


def test_what_is_logged_on_three_ranks_is_a_plain_count_over_all() -> None:
    expected = [plain_counts(options) for options in CASES.values()]
    for rank in run_ranks(3, logged, list(CASES.values()), SHARES):
        for found, wanted in zip(rank, expected, strict=True):
            assert found == pytest.approx(wanted, rel=1e-9)


def test_own_pairs_that_are_predicted_have_no_negatives() -> None:
    """SSPL: the similarity is that of the attended image and the own sound, of valid clips."""
    options = LossOptions(positives=OwnClip(), objective=Sspl(hidden=8, projection=8, bottleneck=4))
    maps, audio, _ = random_parameters(N, channels=4)
    head = options.head(4)
    assert head is not None, "SSPL learns a head"
    clips = random_clips(N, invalid=INVALID)
    embeddings = head.double()(embed(maps, audio), [maps, maps.flip(2)], clips.valid)
    counts = global_loss(embeddings, clips, options, World()).logged
    there = [i for i in range(N) if i not in INVALID]
    image, own_audio = embeddings.extra["attended"], embeddings.audio[:, 0]
    cosines = [float(image[i] @ own_audio[i] / image[i].norm() / own_audio[i].norm()) for i in there]
    assert float(counts["positive_similarity"]) == pytest.approx(sum(cosines) / len(there))
    assert (int(counts["rows_without_negatives"]), int(counts["rows_without_positives"])) == (len(there), 0)
