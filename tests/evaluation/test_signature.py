"""Promise 13: a result says in a line what it is, and can be asked for again by that line."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from cacl.errors import UserError
from cacl.evaluation.evaluator import Evaluator
from cacl.evaluation.protocols import CONTROLS, PROTOCOLS
from cacl.evaluation.sentences import sentence
from cacl.evaluation.signature import Signature
from launch.jobs.predictions import evaluate_predictions
from launch.main import main

RANDOM = np.random.default_rng(0)
CLIPS: list[dict[str, Any]] = [
    {"file": f"a_{k // 2}_{k}", "class": "x", "bbox": [[0.1, 0.1, 0.6, 0.3 + 0.1 * k]]} for k in range(6)
]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps(CLIPS))
    maps = RANDOM.uniform(-1, 1, (6, 7, 7))
    np.savez(tmp_path / "maps.npz", maps=maps, id=[clip["file"] for clip in CLIPS])
    return tmp_path


def test_the_numbers_of_a_record_can_be_asked_for_by_its_signature(files, capsys):
    words = ["evaluate", "--predictions", str(files / "maps.npz"), "--boxes", str(files / "boxes.json")]
    asked = ["--protocol", "slavc-compat", "--upsampling", "bilinear", "--without-quirks", "thinned-ap"]
    assert main([*words, *asked, "--out", str(files / "first")]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(
        r"slavc-compat\|v1\|n:6\|missing:0\|rule:top-half\|up:bilinear\|without:thinned-ap\|refine:none\|"
        r"alpha:none\|theta:none\|negatives:none\|repetitions:none\|seed:none\|weights:model\|checkpoint:latest\|cacl:[\d.]+",
        line,
    )
    assert main([*words, "--signature", line, "--out", str(files / "second")]) == 0
    first, second = (json.loads((files / name / "metrics.json").read_text()) for name in ("first", "second"))
    assert first == second and first["signature"] == line
    assert main([*words, "--signature", line, "--upsampling", "nearest", "--out", str(files / "third")]) == 2
    assert "--upsampling: stands in --signature already" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, one in PROTOCOLS.items() if not one.needs_masks])
def test_every_protocol_has_a_main_number_with_a_rule_and_a_signature_that_is_read_back(name, files):
    kind = "regions" if name.endswith("-region") else "maps"
    if kind == "regions":
        entries = [{"image_id": clip["file"], "bbox": clip["bbox"][0]} for clip in CLIPS]
        (files / "regions.json").write_text(json.dumps(entries))
    file = files / ("regions.json" if kind == "regions" else "maps.npz")
    record = evaluate_predictions(file, files / "boxes.json", files / "out", protocol=name)
    main_number = record["main"]
    assert main_number["value"] == record["model"][main_number["name"]]
    assert main_number["rule"] == PROTOCOLS[name].rule_of(main_number["name"]) != "none"
    again = Signature.parse(record["signature"])
    assert str(again) == record["signature"]
    assert again.options()["protocol"] == name and again.fields["n"] == "6"


def numbers_of(name: str) -> set[str]:
    protocol = PROTOCOLS[name]
    evaluator = Evaluator(protocol)
    masks = np.zeros((6, 20, 20), bool)
    masks[:5, 2:12, 2:14] = True
    maps = RANDOM.uniform(-1, 1, (6, 7, 7))
    boxes = [[(0.1, 0.1, 0.6, 0.7)]] * 5 + [[]]
    evaluator.update(
        maps, boxes, masks=masks if protocol.needs_masks else None, ids=[c["file"] for c in CLIPS]
    )
    return set(evaluator.compute())


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_number_has_a_sentence(name):
    found = numbers_of(name)
    assert PROTOCOLS[name].main in found
    assert all(re.fullmatch(r"[A-Z].*\.", sentence(number)) for number in found)


def test_numbers_of_controls_have_a_sentence():
    for controls in CONTROLS.values():
        assert controls
    assert sentence("peak_in_sounding_box") != sentence("peak_in_first_box")
    with pytest.raises(KeyError):
        sentence("no_such_number")


LINE = (
    "vggss|v2|n:6|missing:0|rule:adaptive|up:bicubic|without:none|refine:min-max|alpha:0.3|theta:0.4127|"
    "negatives:silence+10dB|repetitions:3|seed:1|weights:ema|checkpoint:best|cacl:0.2.0"
)


def test_a_signature_tells_the_options_of_a_run():
    assert Signature.parse(f" {LINE}\n").options() == {
        "protocol": "vggss",
        "upsampling": "bicubic",
        "without_quirks": [],
        "object_guidance": "min-max",
        "alpha": "0.3",
        "weights": "ema",
        "checkpoint": "best",
        "negatives": ["silence", "10dB"],
        "repetitions": 3,
        "seed": 1,
    }
    assert (
        Signature.parse(LINE.replace("checkpoint:best", "checkpoint:step-8")).options()["checkpoint"]
        == "step-8"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "does not begin with a protocol"),
        (LINE.replace("vggss|v2", "vggss"), "does not begin with a protocol"),
        (LINE.replace("|v2|", "|v1|"), "was version 1 in cacl 0.2.0 and is 2 here"),
        (LINE.replace("vggss|", "vggsss|"), "there is no protocol 'vggsss'"),
        (LINE.replace("|up:bicubic", ""), "has no up"),
        (LINE.replace("up:bicubic", "up:cubic"), "there is no 'cubic'"),
        (LINE.replace("weights:ema", "weights:both"), "weights: both is none of model, ema"),
        (
            LINE.replace("checkpoint:best", "checkpoint:step-"),
            "checkpoint: step- is none of latest, best, step-N",
        ),
        (LINE.replace("without:none", "without:thinned-ap"), "has no quirk"),
        (LINE.replace("seed:1", "seed:-1"), "seed: -1 is no whole number"),
        (LINE.replace("repetitions:3", "repetitions:none"), "repetitions: none is no whole number"),
        (LINE + "|more:1", "more: there is no such part"),
    ],
)
def test_lines_that_are_no_signature_are_one_sentence(line, words):
    with pytest.raises(UserError, match=words) as error:
        Signature.parse(line).options()
    assert "\n" not in str(error.value)
