"""Golden values of ACL's evaluator: a sweep of absolute thresholds, and its median."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cacl.annotation import Annotation, SoundSource
from cacl.evaluation import results
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.evaluator import Evaluator
from cacl.evaluation.measure import measure_annotated
from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.protocols.acl import QUIRKS, Rules, acl_protocol
from tests.evaluation.golden import cases, check_numbers, truths


@pytest.fixture(scope="module")
def golden(golden_dir):
    return cases(golden_dir / "acl_sweep.npz")


def protocol_of(case, **rules):
    thresholds = tuple(case["thresholds"].tolist())
    options = Rules(thresholds, offset=case["b"] / case["w"], **rules)
    made = acl_protocol("golden", version=1, consensus=bool(case.get("consensus")), rules=options)
    return replace(made, size=case["size"], upsampling=case["upsampling"])


def measured(case, protocol):
    """A case in one batch, so that the first map of a batch is where the reference had it."""
    logits = torch.from_numpy(case["logits"])
    columns = protocol.measure(protocol.score_maps(logits), {"boxes": truths(case, len(logits))})
    index = np.arange(len(logits))
    numpy = {name: column.numpy() for name, column in columns.items()}
    return ClipResults(index, index.astype(str), index.astype(str), np.ones_like(index), numpy)


def check_sweep(protocol, found, expected):
    np.testing.assert_allclose(found["ciou_sweep"].T, expected["ciou"], rtol=0, atol=1e-6)
    curve, numbers, summary = protocol.sweep(found), protocol.summarize(found), expected["summary"]
    check_numbers(curve, {name: summary[name] for name in ("ciou", "auc")})
    count = len(curve["threshold"])
    for kind in ("ciou", "auc"):
        best = numbers[f"{kind}_best_of_{count}_on_test_set"]
        assert best == pytest.approx(summary[f"best_{kind}"], abs=1e-6)
        if f"best_{kind}_threshold" in summary:
            at = numbers[f"threshold_of_best_{kind}"]
            assert at == pytest.approx(summary[f"best_{kind}_threshold"], abs=1e-6)


def test_golden_sweep_with_its_quirk_and_without(golden):
    for case in golden.values():
        protocol = protocol_of(case)
        check_sweep(protocol, measured(case, protocol), case["compat"])
        sane = protocol_of(case, quirks=frozenset())
        check_sweep(sane, measured(case, sane), case["clean"])


def test_golden_median_of_each_map_and_of_the_first_of_a_batch(golden):
    for case in golden.values():
        expected = {name: values for name, values in case["compat"].items() if "median_batch" in name}
        assert expected
        for name, values in [("median_batch1", case["clean"]["median"]), *expected.items()]:
            quirks = QUIRKS if values is not case["clean"]["median"] else frozenset()
            protocol = protocol_of(case, median_batch=int(name.removeprefix("median_batch")), quirks=quirks)
            found = measured(case, protocol)
            np.testing.assert_allclose(found["ciou_median"], values["ciou"], rtol=0, atol=1e-6, err_msg=name)
            numbers = protocol.summarize(found)
            check_numbers(numbers, {f"{kind}_median": value for kind, value in values["summary"].items()})


def test_a_number_that_the_test_set_chose_says_so_and_the_record_has_the_curve():
    """Promises 11 and 13."""
    maps = torch.randn(8, 7, 7, generator=torch.Generator().manual_seed(0))
    notes = [Annotation(f"clip {k}", k, (SoundSource(boxes=((0.2, 0.2, 0.7, 0.8),)),)) for k in range(8)]
    protocol = PROTOCOLS["acl-compat"]
    found = measure_annotated(maps, notes, protocol)
    subject = results.Subject(protocol, "data", "step-1", [])
    record = results.summarize(subject, {"model": found})
    names = {name for name, rule in record["rules"].items() if rule.endswith("chosen on the test set")}
    assert names == {"ciou_best_of_19_on_test_set", "auc_best_of_19_on_test_set"}
    assert record["model"]["ciou_best_of_19_on_test_set"] == max(record["sweep"]["ciou"])
    assert len(record["sweep"]["threshold"]) == 19
    assert not names & record["intervals"].keys()
    assert record["intervals"].keys() == {"ciou_median", "auc_median"}


def test_a_high_threshold_answers_silence_by_nothing():
    evaluator = Evaluator("acl-compat", without_quirks=["nan-when-nothing"])
    evaluator.update(np.stack([np.full((4, 4), -9.0), np.full((4, 4), 9.0)]), [[(0, 0, 1, 1)]] * 2)
    sweep = evaluator.results()["ciou_sweep"]
    assert sweep.tolist() == [[0] * 19, [1] * 19]
