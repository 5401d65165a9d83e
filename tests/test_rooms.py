"""Who imports whom: the rooms of docs/design.md, with no circle and no arrow up but the library's lazy door.

Every import counts, those within functions and under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = {
    "cacl.types", "cacl.errors", "cacl.options", "cacl.world", "cacl.clock", "cacl.threads", "cacl.files",
    "cacl.processes", "cacl.resumable", "cacl.extras", "cacl.annotation", "cacl.limits",
}  # fmt: skip
"""Loose modules of cacl, which every room may import. Among each other they make no circle."""
ALLOWED = {
    "cacl.model": set(),
    "cacl.loss": set(),
    "cacl.runs": {"cacl.model", "cacl.loss"},
    "cacl.training": {"cacl.model", "cacl.loss", "cacl.runs"},
    "cacl.evaluation": {"cacl.model", "cacl.runs"},
    "cacl.labels": {"cacl.model", "cacl.runs"},
    "cacl.released": {"cacl.model", "cacl.runs"},
    "cacl.media": set(),
    "cacl.viewing": {"cacl.media", "cacl.model", "cacl.evaluation", "cacl.runs"},
}
"""Which rooms a room of cacl imports, next to the ground."""
GROUND_OF_SHARDS = {
    "cacl.errors",
    "cacl.options",
    "cacl.limits",
    "cacl.types",
    "cacl.files",
    "cacl.processes",
    "cacl.annotation",
    "cacl.extras",
    "cacl.media.picture",
    "cacl.media.still",
    "cacl.media.sound",
    "cacl.media.tracks",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_of(path): path
    for package in ("cacl", "shards", "launch")
    for path in (ROOT / package).rglob("*.py")
}


def imported_by(module: str) -> Iterator[str]:
    """Yield the modules of ours that a module imports."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in MODULES or node.module in MODULES:
                    yield name if name in MODULES else node.module


ARROWS = {module: set(imported_by(module)) - {module} for module in MODULES}


def room_of(module: str) -> str:
    """Return the room a module lies in: `cacl.loss`, `launch.verbs`; loose modules are rooms of their own."""
    parts = module.split(".")
    return module if module in GROUND or len(parts) == 1 else ".".join(parts[:2])


def test_modules_import_no_circle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in ARROWS[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_the_ground_of_cacl_is_small_and_imports_nothing_above():
    loose = {
        module for module in MODULES if module.startswith("cacl.") and MODULES[module].parent == ROOT / "cacl"
    }
    assert loose == GROUND and len(loose) <= 12
    for module in GROUND:
        assert ARROWS[module] <= GROUND, module


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) in ALLOWED])
def test_a_room_of_cacl_imports_only_what_lies_below_it(module):
    room = room_of(module)
    for other in ARROWS[module]:
        assert other in GROUND or room_of(other) in {room, *ALLOWED[room]}, f"{module} imports {other}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("shards")])
def test_shards_knows_no_model_and_no_loss(module):
    for other in ARROWS[module]:
        assert other.startswith("shards") or other in GROUND_OF_SHARDS, f"{module} imports {other}"


def test_the_door_alone_points_up():
    for module, others in ARROWS.items():
        if module.startswith("cacl"):
            up = {other for other in others if not other.startswith("cacl")}
            assert not up or module == "cacl", f"{module} imports {up}"
        if module.startswith(("cacl.", "shards")):
            assert "cacl" not in others, f"{module} imports the door"


def test_jobs_know_no_verb_and_verbs_no_other_verb():
    for module, others in ARROWS.items():
        if module.startswith("launch.jobs"):
            assert not [o for o in others if o.startswith(("launch.verbs", "launch.main"))], module
        if module.startswith("launch.verbs."):
            verbs = {path.stem for path in (ROOT / "launch" / "verbs").glob("*.py")} - {
                "__init__",
                "arguments",
                "evaluate_retrieval",
                "evaluate_table",
                "evaluate_words",
                "source_options",
            }
            assert not [o for o in others if o.removeprefix("launch.verbs.") in verbs], module
        if module.startswith(("cacl.", "shards")):
            assert not [o for o in others if o.startswith("launch")], module


def test_the_command_line_is_known_to_main_and_the_verbs_alone():
    for module, path in MODULES.items():
        tree = ast.walk(ast.parse(path.read_text()))
        names = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
        assert "argparse" not in names or module == "launch.main" or module.startswith("launch.verbs"), module
