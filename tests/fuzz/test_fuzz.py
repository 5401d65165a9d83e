"""Promise 12: whatever a file holds, reading it ends in its content or in one sentence. Ten thousand of each: make fuzz."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import NAMES
from tests.fuzz.formats import Format, make_formats
from tests.fuzz.fuzz import Input, fuzz, outcome, write

pytestmark = [
    pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::cacl.errors.Remark"),
]
INPUTS = 40
KEPT: dict[str, list[Input]] = {
    "manifest": [(0, False, [("insert", 0, 254), ("number", 0, 2)])],
    "annotation": [(1, False, [("value", 132, 557662)])],
    "recipe": [(1, False, [("insert", 6, 4236), ("insert", 699797, 346)])],
    "index": [(0, True, [("insert", 20, 3148954)])],
}
"""What once failed."""


@pytest.fixture(scope="module")
def formats(tmp_path_factory) -> dict[str, Format]:
    """Whole files of every format."""
    return make_formats(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_read_and_changed_ones_are_read_or_refused(formats, name, tmp_path):
    form, folder = formats[name], tmp_path / "files"
    write(form, folder)
    assert outcome(form, folder, (0, False, [])) == "read"
    for kept in KEPT.get(name, []):
        outcome(form, folder, kept)
    counts = fuzz(form, folder, INPUTS, number=1)
    assert counts["refused"] > 0


def test_a_reader_that_raises_anything_else_is_found(formats, tmp_path):
    """The control: a reader that trusts its file fails within a few inputs."""
    form = formats["manifest"]

    def trusting(folder: Path) -> None:
        import json

        json.loads((folder / "manifest.json").read_text())["shardlist"][0]["url"].upper()

    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        fuzz(Format(form.files, form.changed, form.readers, trusting), tmp_path / "files", INPUTS, number=1)
