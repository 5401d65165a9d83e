"""Promise 17: what the manual shows works. Its Python is run as it stands, its commands on made data."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from docs.reference.commands import parser_of
from launch.main import VERBS
from tests.manual.snippets import ROOT, Snippet, run, snippets
from tests.shards import collected
from tests.shards.films import film

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = [snippet for page in PAGES for snippet in snippets(page)]
RUN = [
    page for page in PAGES if any(one.is_run for one in snippets(page) if one.language in ("python", "sh"))
]
SLOW = [page for page in RUN if any(one.is_slow for one in snippets(page))]


@pytest.fixture(scope="session")
def made(tmp_path_factory, data) -> Path:
    """A folder as a reader of the manual has it: films, frames with boxes, packed clips, a run, maps."""
    import cacl
    from tests.launch.tiny import write_recipe

    folder = tmp_path_factory.mktemp("made")
    random = np.random.default_rng(0)
    for k, name in enumerate(["one", "two", *(f"more/{k}" for k in range(18))]):
        tone = 0.5 * np.sin(2 * np.pi * 200 * (k + 1) * np.arange(3 * 16000) / 16000)
        film(folder / "films" / f"{name}.mp4", fps=8, audio=tone)
    for name in ("a", "b"):
        for kind in ("frames", "audio"):
            (folder / "test-clips" / kind).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(random.integers(0, 255, (48, 64, 3), np.uint8))
        picture.save(folder / "test-clips" / "frames" / f"{name}.jpg")
        soundfile.write(folder / "test-clips" / "audio" / f"{name}.wav", random.normal(0, 0.1, 48000), 16000)
    (folder / "frame.jpg").write_bytes((folder / "test-clips" / "frames" / "a.jpg").read_bytes())
    (folder / "sound.wav").write_bytes((folder / "test-clips" / "audio" / "a.wav").read_bytes())
    (folder / "film.mp4").write_bytes((folder / "films" / "one.mp4").read_bytes())
    for name in ("one_000000", "clip0"):
        film(folder / "VIDEOS" / f"{name}.mp4", fps=8)
    (folder / "vggss_144k.txt").write_text("one_000000\n")
    (folder / "weights").mkdir()
    (folder / "weights" / "resnet18-f37072fd.pth").touch()
    (folder / "data").mkdir()
    (folder / "data" / "train").symlink_to(data)
    recipe = write_recipe(folder, data)
    cacl.train(recipe, folder / "runs" / "demo", max_steps=2)
    ids = [f"clip{k}" for k in range(12)]
    clips = [{"file": clip, "class": "dog", "bbox": [[0.2, 0.2, 0.7, 0.9]]} for clip in ids]
    (folder / "vggss.json").write_text(json.dumps(clips))
    classes = ("bell", "drum", "horn", "whistle")
    collected.cut_outs(folder / "cut-outs", dict.fromkeys(classes, 3))
    collected.recordings(folder / "recordings", dict.fromkeys(classes, 3))
    collected.photographs(folder / "photographs", 3)
    np.savez(folder / "maps.npz", maps=random.normal(size=(12, 7, 7)), id=ids)
    return folder


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_snippets_of_a_page_run_in_their_order(page, made, tmp_path, monkeypatch):
    run_page([one for one in snippets(page) if not one.is_slow], made, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=lambda page: page.stem)
def test_slow_snippets_run_after_those_above_them(page, made, tmp_path, monkeypatch):
    run_page(snippets(page), made, tmp_path, monkeypatch)


def run_page(shown: list[Snippet], made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run snippets in a copy of the made data, with the modules that a page writes at hand."""
    shutil.copytree(made, folder, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(folder)]))
    names: dict[str, object] = {"__name__": "__main__"}
    try:
        for snippet in shown:
            if snippet.is_run:
                run(snippet, names)
    finally:
        for written in folder.glob("*.py"):
            sys.modules.pop(written.stem, None)


@pytest.mark.parametrize("snippet", [one for one in SNIPPETS if one.language == "sh"], ids=str)
def test_commands_that_are_shown_are_understood(snippet: Snippet):
    for words in snippet.commands():
        if words[0] == "cacl":
            check_arguments(words[1:])


@pytest.mark.parametrize("verb", VERBS)
def test_commands_that_a_verb_shows_of_itself_are_understood(verb):
    text = parser_of(verb).description or ""
    block = "\n".join(line.strip() for line in text.splitlines() if line.startswith("    "))
    commands = [words for words in Snippet(verb, 0, "sh", block, "").commands() if words[0] == "cacl"]
    assert commands
    for words in commands:
        check_arguments(words[1:])


def check_arguments(words: list[str]) -> None:
    """Let the verb's own parser read the words; what a recipe takes must be keys of it."""
    if words[0].startswith("--") or words[0].isupper():
        return
    parser = parser_of(words[0])
    parser.exit_on_error = False
    _, rest = parser.parse_known_args([word for word in words[1:] if word != "--help"])
    for word in rest:
        assert not word.startswith("--") or "." in word or word in ("--dry-run",), (
            f"cacl {' '.join(words)}: {word}"
        )


def test_make_targets_that_are_shown_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        words[1] for one in SNIPPETS if one.language == "sh" for words in one.commands() if words[0] == "make"
    }
    assert shown and shown <= targets


def test_what_is_not_run_says_why():
    for snippet in SNIPPETS:
        if not snippet.is_run:
            assert len(snippet.mark.removeprefix("not run: ").split()) >= 3, snippet
