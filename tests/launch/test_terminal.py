"""What is printed ends no work: not by what it says, nor by a terminal that cannot show it, nor by one that left."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys

import pytest

from launch.terminal import Terminal, one_line, visible
from tests.launch.tiny import cacl

COMMAND = [sys.executable, "-m", "launch.main"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "g"
    assert (
        cacl("pack", "generated", "--clips", "6", "--frame-side", "48", "--out", str(folder)).returncode == 0
    )
    return folder


def test_control_characters_of_a_name_are_shown_and_never_obeyed():
    assert visible("a\x1b[2J\x9b\u202eb\u2028\ud800\tz\n") == r"a\x1b[2J\x9b\u202eb\u2028\ud800" + "\tz\n"
    assert one_line("a\nb\r") == r"a\nb\r"
    assert visible("강아지 🐕‍🦺 é") == "강아지 🐕‍🦺 é"


def test_no_verb_prints_the_control_characters_of_what_it_reads(tmp_path):
    evil = "\x1b]0;owned\x07\r\nsecond"
    done = cacl("evaluate", "--run", str(tmp_path / evil))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert not set("\x1b\x07\r") & set(done.stderr) and r"\x1b]0;owned\x07\r\nsecond" in done.stderr
    recipe = tmp_path / "r.yaml"
    recipe.write_text('data: {train: x, "k\\e[2J": 1}')
    done = cacl("config", str(recipe))
    assert done.returncode == 2 and "\x1b" not in done.stderr and r"k\x1b[2J: unknown key" in done.stderr


def test_a_progress_bar_moves_on_standard_error_alone(tmp_path):
    for moves, expected in ((True, "\rtrain\x1b[A\n"), (False, r"\rtrain\x1b[A" + "\n")):
        with (tmp_path / "out").open("w+", newline="") as file:
            stream = Terminal(file, moves=moves)
            for text in ("\rtrain", "\x1b[A\n"):
                stream.write(text)
            file.seek(0)
            assert file.read() == expected


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_shows_what_it_can(tmp_path, encoding):
    with (tmp_path / "out").open("w+", encoding=encoding) as file:
        Terminal(file, moves=False).write("loss.scores: float32 → tf32, 강 …\n")
        file.seek(0)
        assert file.read() == "loss.scores: float32 -> tf32, \\uac15 ...\n"


@pytest.mark.parametrize("words", [["shards", "info"], ["config", "demo"], ["--help"], ["labels", "--help"]])
def test_a_verb_ends_quietly_when_nobody_reads(shards, words):
    words = [*words, str(shards)] if words[0] == "shards" else words
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*COMMAND, *words], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_verb_works_without_standard_streams(shards, tmp_path):
    out = tmp_path / "packed"
    script = f"exec {sys.executable} -m launch.main pack generated --clips 3 --frame-side 48 --out {out} >&- 2>&- <&-"
    assert subprocess.run(["bash", "-c", script], check=False).returncode == 0
    assert cacl("shards", "verify", str(out)).returncode == 0


def test_a_terminal_that_hangs_up_is_as_nobody_who_reads(tmp_path):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        os.close(ours)
        with pytest.raises(OSError) as error:  # what it is without us
            os.write(stream.fileno(), b"x")
        assert error.value.errno == errno.EIO
        terminal = Terminal(stream, moves=False)
        terminal.write("a line\n")
        terminal.flush()
        terminal.write("another\n")
        terminal.flush()


def test_a_full_disk_under_a_listing_is_said():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "config", "demo"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (
        done.returncode == 1 and "No space left on device" in done.stderr and "Traceback" not in done.stderr
    )


def test_a_folder_that_is_not_there_is_a_sentence_that_names_the_file(shards, tmp_path):
    """Whatever a verb writes; the file is the one that was asked for, not the unfinished one beside it."""
    for words in (["shards", "sheet", str(shards), "--out"], ["shards", "audit", str(shards), "--clean"]):
        done = cacl(*words, str(tmp_path / "none" / "x.png"))
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert f"{tmp_path}/none/x.png: No such file or directory; mend the folder" in done.stderr
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = cacl(
        "labels",
        "cluster",
        str(shards),
        "--of",
        "sound",
        "--clusters",
        "2",
        "--out",
        str(blocked / "t.parquet"),
    )
    assert (
        done.returncode == 1
        and "Traceback" not in done.stderr
        and str(blocked) in done.stderr.splitlines()[-1]
    )
