"""`cacl wheels` collects what another machine lacks, and leaves what is there as it is."""

from __future__ import annotations

import json
from importlib.metadata import requires
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest
from packaging.requirements import Requirement

from cacl.errors import UserError
from launch.jobs.wheels import Machine, collect_wheels, read_pip_list
from tests.launch.tiny import cacl


def put_wheel(shelf: Path, name: str, version: str, *needs: str, kib: int = 1) -> None:
    """Write a wheel that asks for `needs`."""
    shelf.mkdir(exist_ok=True)
    folder = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {need}" for need in needs]
    with ZipFile(shelf / f"{name}-{version}-py3-none-any.whl", "w", ZIP_STORED) as archive:
        archive.writestr(f"{folder}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{folder}/RECORD", "")
        archive.writestr(f"{name}.py", "#" * (kib << 10))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip finds, and no network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    return tmp_path / "shelf"


def there(**more: str) -> dict[str, str]:
    """A machine that holds what cacl itself needs."""
    own = [Requirement(line) for line in requires("cacl") or [] if "extra ==" not in line]
    return {requirement.name: "99" for requirement in own} | more


def test_what_is_lacking_comes_with_what_that_needs_in_pieces_of_the_limit(shelf, tmp_path):
    put_wheel(shelf, "alpha", "1.0", "beta>=2", "held>=2", "gamma; python_version < '3'", kib=300)
    put_wheel(shelf, "beta", "1.0")
    put_wheel(shelf, "beta", "2.0", "delta", kib=300)
    put_wheel(shelf, "delta", "1.0", kib=900)
    found = collect_wheels(
        Machine("3.12", there(held="1.0")), tmp_path / "out", more=["alpha", "absent"], limit_mib=0.5
    )
    names = [sorted(wheel.name.split("-py3")[0] for wheel in piece.iterdir()) for piece in found.pieces]
    assert sorted(names) == [["alpha-1.0"], ["beta-2.0"]], "both do not fit into one"
    assert [wheel.name for wheel in found.too_large] == ["delta-1.0-py3-none-any.whl"]
    assert found.contradictions == ["held>=2 (there: 1.0)"] and list(found.missing) == ["absent"]


def test_an_earlier_version_is_taken_where_the_newest_contradicts_the_machine(shelf, tmp_path):
    put_wheel(shelf, "alpha", "2.0", "torch>=100")
    put_wheel(shelf, "alpha", "1.0", "torch")
    found = collect_wheels(Machine("3.12", there()), tmp_path / "out", more=["alpha"])
    assert [wheel.name for wheel in found.pieces[0].iterdir()] == ["alpha-1.0-py3-none-any.whl"]
    assert not found.contradictions and not found.missing


def test_the_verb_says_what_was_not_to_be_had_and_ends_in_1(shelf, tmp_path):
    shelf.mkdir()
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([{"name": n, "version": v} for n, v in there().items()]))
    words = ["--pip-list", str(listed), "--python", "3.12", "--out", str(tmp_path / "out")]
    answer = cacl("wheels", "absent", *words)
    assert answer.returncode == 1 and answer.stdout.startswith("not to be had: absent: "), answer.stderr


@pytest.mark.parametrize("text", ["{", "[1]", '[{"name": "torch"}]'])
def test_another_file_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(UserError, match=r"list\.json: is not what `pip list --format=json` writes"):
        read_pip_list(tmp_path / "list.json")


def test_a_machine_without_torch_is_refused(tmp_path):
    with pytest.raises(UserError, match="names no torch"):
        collect_wheels(Machine("3.12", {}), tmp_path / "out")


@pytest.mark.parametrize(
    ("wheel", "runs"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-cp312-cp312-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1-cp311-cp311-manylinux_2_28_x86_64.whl", False),
        ("a-1-cp312-cp312-manylinux_2_34_x86_64.whl", False),
        ("a-1-cp312-cp312-macosx_11_0_x86_64.whl", False),
    ],
)
def test_only_wheels_of_its_python_and_glibc_run_there(wheel, runs, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert Machine("3.12", {}).takes(wheel) == runs
