"""Promise 7: a checkpoint is complete or absent, and a damaged one is found out and passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cacl.errors import UserError
from cacl.runs import checkpoint

FILES = {
    "model.safetensors": {"weight": torch.arange(1000.0)},
    "engine/optimizer.safetensors": {"0.step": torch.ones(())},
}


def saved(folder: Path, steps: tuple[int, ...] = (5, 10), keep: int = 2) -> Path:
    writer = checkpoint.Writer(folder, keep)
    for step in steps:
        writer.begin(step)
        writer.save(step, FILES, {"identity": {}})
    writer.wait()
    return folder


def test_what_was_written_is_read_again(tmp_path):
    newest = checkpoint.latest_valid(saved(tmp_path))
    assert newest is not None and newest.name == "step-10"
    assert checkpoint.read_state(newest)["step"] == 10
    assert torch.equal(checkpoint.read_tensors(newest / "model.safetensors")["weight"], torch.arange(1000.0))


def test_training_may_change_tensors_as_soon_as_a_save_returns(tmp_path):
    """Also of a second save, which copies into the memory of the first, and of one that grew."""
    writer = checkpoint.Writer(tmp_path, keep=3)
    live = {"weight": torch.zeros(1_000_000), "strided": torch.zeros(4, 3).T}
    for step, shape in ((1, (2,)), (2, (2,)), (3, (5, 2))):
        live |= {"grows": torch.full(shape, float(step))}
        for tensor in live.values():
            tensor.fill_(step)
        writer.begin(step)
        writer.save(step, {"model.safetensors": live}, {"identity": {}})
        for tensor in live.values():
            tensor.fill_(-1)
    writer.wait()
    for step, folder in zip((3, 2, 1), checkpoint.step_folders(tmp_path), strict=True):
        read = checkpoint.read_tensors(folder / "model.safetensors")
        assert read.keys() == live.keys()
        assert all((tensor == step).all() for tensor in read.values())


def test_only_the_newest_are_kept(tmp_path):
    saved(tmp_path, steps=(1, 2, 3, 20), keep=2)
    assert [path.name for path in checkpoint.step_folders(tmp_path)] == ["step-20", "step-3"]
    assert not list(tmp_path.glob("writing-*"))


def measured(folder: Path, figures: list[float | None], keep: int) -> Path:
    """Checkpoints 1, 2, ... with these validation figures; None where none was measured."""
    writer = checkpoint.Writer(folder, keep, "recall")
    for step, figure in enumerate(figures, start=1):
        writer.begin(step)
        writer.save(
            step, FILES, {"validation": None if figure is None else {"recall": figure, "clips": 9 - step}}
        )
    writer.wait()
    return folder


@pytest.mark.parametrize(
    ("figures", "best"),
    [([0.2, 0.9, 0.4, 0.1], 2), ([0.3, 0.7, 0.7, 0.5], 3), ([None, 0.1, None, None], 2), ([None] * 4, None)],
    ids=["highest", "the later of equals", "measured once", "never measured"],
)
def test_the_best_is_kept_beside_the_newest(tmp_path, figures, best):
    folder = measured(tmp_path, figures, keep=1)
    assert [path.name for path in checkpoint.step_folders(folder)] == [
        f"step-{step}" for step in (4, best) if step is not None
    ]
    found = checkpoint.best(folder, "recall")
    assert found == (best and folder / f"step-{best}")


def test_what_a_killed_run_left_half_written_is_removed_by_the_next_checkpoint(tmp_path):
    (tmp_path / "writing-3" / "engine").mkdir(parents=True)
    (tmp_path / "writing-3" / "model.safetensors").write_bytes(b"half")
    saved(tmp_path, steps=(7,))
    assert [path.name for path in tmp_path.iterdir()] == ["step-7"]


def test_a_checkpoint_of_another_format_is_passed_over(tmp_path, capsys):
    """Also where its hashes are right."""
    newest = saved(tmp_path) / "step-10"
    (newest / "hashes.json").unlink()
    text = (newest / "state.json").read_text()
    (newest / "state.json").write_text(text.replace('"format_version": 1', '"format_version": 2'))
    checkpoint.seal(newest)
    found = checkpoint.latest_valid(tmp_path)
    assert found is not None and found.name == "step-5"
    assert "step-10: damaged (its format_version is not 1" in capsys.readouterr().err


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


DAMAGES = {
    "truncated": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "bit flipped": lambda folder: flip(folder / "model.safetensors"),
    "file gone": lambda folder: (folder / "engine" / "optimizer.safetensors").unlink(),
    "no hashes": lambda folder: (folder / "hashes.json").unlink(),
    "state cut": lambda folder: (folder / "state.json").write_text("{"),
    "hashes of nothing": lambda folder: (folder / "hashes.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, capsys, damage):
    saved(tmp_path)
    damage(tmp_path / "step-10")
    newest = checkpoint.latest_valid(tmp_path)
    assert newest is not None and newest.name == "step-5"
    assert "step-10: damaged" in capsys.readouterr().err


def test_a_half_written_checkpoint_does_not_count(tmp_path):
    saved(tmp_path, steps=(5,))
    (tmp_path / "writing-10").mkdir()
    (tmp_path / "writing-10" / "model.safetensors").write_bytes(b"half")
    newest = checkpoint.latest_valid(tmp_path)
    assert newest is not None and newest.name == "step-5"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    writer = checkpoint.Writer(tmp_path / "checkpoints")
    with pytest.raises(UserError, match="could not be written"):
        writer.begin(1)


def test_an_error_of_the_writing_thread_is_raised(tmp_path):
    writer = checkpoint.Writer(tmp_path)
    folder = writer.begin(1)
    folder.rmdir()
    folder.write_text("a file where the folder should be")
    writer.save(1, FILES, {})
    with pytest.raises(UserError, match="could not be written"):
        writer.wait()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_optimizer_goes_on_bit_for_bit_from_its_tensors(momentum):
    def run(steps: int, parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        for step in range(steps):
            parameter.grad = torch.full_like(parameter, 0.1 * (step + 1))
            optimizer.step()

    def fresh() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        parameter = torch.nn.Parameter(torch.ones(3))
        if momentum:
            return parameter, torch.optim.SGD([parameter], lr=0.1, momentum=momentum)
        return parameter, torch.optim.AdamW([parameter], lr=0.1, fused=True)

    first, optimizer = fresh()
    run(3, first, optimizer)
    second, restored = fresh()
    second.data.copy_(first.data)
    tensors = checkpoint.to_host(checkpoint.optimizer_tensors(optimizer))
    checkpoint.load_optimizer_tensors(restored, tensors)
    run(2, first, optimizer)
    run(2, second, restored)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "odd",
    [
        {"recall": 1.0, "not_finite": 0.1},
        {"recall": float("nan")},
        {"recall": float("inf")},
        {"recall": "1.0"},
        [1.0],
    ],
)
def test_a_diverged_model_is_never_the_best(tmp_path, odd):
    writer = checkpoint.Writer(tmp_path, 1, "recall")
    for step, figures in enumerate([odd, {"recall": 0.0}, odd, odd], start=1):
        writer.begin(step)
        writer.save(step, FILES, {"validation": figures})
    writer.wait()
    assert checkpoint.best(tmp_path, "recall") == tmp_path / "step-2"
    assert [path.name for path in checkpoint.step_folders(tmp_path)] == ["step-4", "step-2"]
