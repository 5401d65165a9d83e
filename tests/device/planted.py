"""Every place where the product says that something lies on the device, and the mistake of not saying it.

`device=...` is left out, `.to(device)` is left out, what is made like another tensor is made on the host, and a copy
for which nobody waits is waited for.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutants import ROOT, Mutant

_MARKED = ("-m", "")
"""Those of `make test-device` too."""
TESTS = {
    "cacl/loss/": ("test_loss.py",),
    "cacl/training/": ("test_step.py",),
    "cacl/training/validation.py": ("test_training.py",),
    "cacl/model/": (*_MARKED, "test_step.py", "test_evaluation.py"),
    "cacl/evaluation/": ("test_evaluation.py",),
    "cacl/labels/": ("test_labels.py",),
    "cacl/viewing/": ("test_viewing.py",),
    "cacl/runs/": ("test_training.py",),
    "cacl/types.py": ("test_step.py", "test_labels.py"),
    "cacl/world.py": ("test_loss.py",),
    "launch/jobs/data.py": ("test_labels.py", "test_training.py"),
    "launch/jobs/": (*_MARKED, "test_jobs.py"),
}
"""Which tests of this folder must find the mistakes of which files; the longest name that fits counts."""
NO_MISTAKE = {
    "torch.full_like(index, -1": "moved right away",
    "sums.new_zeros(sums.shape": "a shift that nobody reads",
    "torch.zeros_like(union": "a truth is made on the host, and moved with those of other clips",
    "like.new_zeros(0, 0": "of a direction that is not asked for: nobody reads it",
}
"""Places, by how they begin, that may be left out."""
LEFT_OUT = {
    "cacl/loss/best_pixel_triton.py": "wants the GPU itself: `make test-gpu`",
    "launch/jobs/bench": "times what it makes, wherever that lies",
    "cacl/training/engines/deepspeed.py": "DeepSpeed looks for a GPU of its own",
    "cacl/model/streamline.py": "on `meta` nothing is drawn",
}


_LIKE_ITSELF = ("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros")
_LIKE_ANOTHER = ("torch.empty_like", "torch.full_like", "torch.ones_like", "torch.zeros_like")


@dataclass(frozen=True)
class Planted(Mutant):
    """A mistake at a place of a file, in bytes."""

    start: int
    end: int

    def broken(self, text: str) -> str:
        """Return `text` of the file with the mistake."""
        source = text.encode()
        assert source[self.start : self.end].decode() == self.find
        return (source[: self.start] + self.replace.encode() + source[self.end :]).decode()


def planted_mistakes() -> list[Planted]:
    """Return all of them, one a place."""
    paths = sorted(path for package in ("cacl", "launch") for path in (ROOT / package).rglob("*.py"))
    files = [path.relative_to(ROOT).as_posix() for path in paths]
    return [
        mistake for file in files if not file.startswith(tuple(LEFT_OUT)) for mistake in _mistakes_in(file)
    ]


def _mistakes_in(file: str) -> Iterator[Planted]:
    place = max((place for place in TESTS if file.startswith(place)), key=len, default="")
    tests = tuple(f"tests/device/{word}" if word.endswith(".py") else word for word in TESTS.get(place, ()))
    source = (ROOT / file).read_bytes()
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or ast.unparse(node).startswith(tuple(NO_MISTAKE)):
            continue
        for wrong in filter(None, (_without_device(node), _waiting(node))):
            assert node.end_lineno is not None and node.end_col_offset is not None
            start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
            end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
            find, replace = source[start:end].decode(), ast.unparse(wrong)
            name = f"{file}:{node.lineno}: {ast.unparse(node)} → {replace}"
            yield Planted("device", name, file, find, replace, tests, start, end)


def _without_device(call: ast.Call) -> ast.expr | None:
    """Return a call that says nothing of the device, None where it says nothing now."""
    wrong = copy.deepcopy(call)
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    wrong.keywords = [word for word in wrong.keywords if word.arg != "device"]
    if len(wrong.keywords) < len(call.keywords):
        return wrong
    if function == "to" and isinstance(wrong.func, ast.Attribute):
        places = [
            word for word in wrong.args if "dtype" not in (said := ast.unparse(word)) and "torch." not in said
        ]
        wrong.args = [word for word in wrong.args if word not in places]
        if not places:
            return None
        if (
            isinstance(places[0], ast.Name) and places[0].id != "device"
        ):  # `to(other)`, which is of its type too
            wrong.args = [ast.Attribute(places[0], "dtype", ast.Load())]
        return wrong if wrong.args else wrong.func.value
    if function == "to_device":
        return wrong.args[0]
    if function in _LIKE_ITSELF or ast.unparse(call.func) in _LIKE_ANOTHER:
        wrong.keywords.append(ast.keyword("device", ast.Constant("cpu")))
        return wrong
    return None


def _waiting(call: ast.Call) -> ast.expr | None:
    """Return a copy that the host waits for, None where it is none, or waits already."""
    wrong = copy.deepcopy(call)
    wrong.keywords = [word for word in wrong.keywords if word.arg != "non_blocking"]
    return wrong if len(wrong.keywords) < len(call.keywords) else None
