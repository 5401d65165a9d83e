"""Terms of a loss that come in with a later epoch, as FNAC's do."""

from __future__ import annotations

from cacl.runs.directory import Run
from cacl.world import World
from tests.launch.tiny import train_rank, write_recipe


def test_a_regularizer_joins_the_loss_with_its_first_epoch(data, tmp_path):
    losses = {}
    for name, words in {"without": [], "from epoch 1": [{"name": "fnac", "first_epoch": 1}]}.items():
        folder = tmp_path / name
        folder.mkdir()
        recipe = write_recipe(folder, data, loss={"regularizers": words}, training={"epochs": 2})
        train_rank(World(), str(recipe), str(folder / "run"), {})
        lines = [line for line in Run(folder / "run").records() if "loss" in line]
        losses[name] = {line["step"]: (line["epoch"], line["loss"]) for line in lines}
    first = [step for step, (epoch, _) in losses["without"].items() if epoch == 0]
    assert first and len(first) < len(losses["without"])
    for step, (_, loss) in losses["without"].items():
        if step in first:
            assert losses["from epoch 1"][step][1] == loss
    turn = max(first) + 1
    assert losses["from epoch 1"][turn][1] > losses["without"][turn][1] + 0.01, "all terms are positive"
