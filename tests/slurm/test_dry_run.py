"""What a dry run prints can be pasted into bash: every word arrives as `cacl submit` would send it, none is run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.errors import UserError
from launch.cluster import slurm
from launch.cluster.jobs import Job, Machines
from launch.cluster.submission import as_comments, as_shell, count_ranks, quoted
from launch.verbs.submit import parse_packing, split_words

SBATCH = """
sbatch() { shift; printf '%s\\0' "$@" >> sent; printf '\\1' >> sent; echo 7; }
mkdir() { :; }
"""
EVIL = ["${USER}$(touch ran)", "`touch ran`", "a'b\"c", "a;touch ran", "$'x'", "\\", "-rf", "a\nb", "\x1b[2J", "é강", "\udcff",
        "${pack_1}", "$pack_1", "%j", "~", "*", "#", "!", "a  b", "\t"]  # fmt: skip


def sent(jobs: list[Job], folder: Path) -> list[list[str]]:
    """Paste a dry run into bash, and return what `sbatch` was given."""
    lines = [*as_comments(jobs), *as_shell(jobs, {"CACL_SITE": "/site 'x'.sh"})]
    script = os.fsencode(SBATCH + "\n".join(lines))
    subprocess.run(
        ["bash", "-c", script], cwd=folder, check=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    )
    calls = (folder / "sent").read_bytes().split(b"\1")[:-1]
    return [[os.fsdecode(word) for word in call.split(b"\0")[:-1]] for call in calls]


@pytest.mark.parametrize("word", EVIL, ids=ascii)
def test_every_word_of_a_dry_run_arrives_as_it_is(tmp_path, word):
    first = Job("pack_1", "pack", [word, f"--out={word}"], "pack", Path("runs") / word, ["--nodes=1"])
    second = Job("train", "train", ["r.yaml", word], "train", Path(word), [], ("pack_1",))
    got = sent([first, second], tmp_path)
    assert got == [first.words({}), second.words({"pack_1": "7"})]
    assert "--dependency=afterok:7" in got[1] and not (tmp_path / "ran").exists()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0\1", exclude_categories=["Cs"]), max_size=8), max_size=6
    )
)
def test_bash_reads_every_quoted_word_back(words):
    script = "printf '%s\\0' x " + " ".join(map(quoted, words))
    told = subprocess.run(
        ["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    ).stdout
    assert told.decode().split("\0")[1:-1] == words
    assert all(quoted(word).isprintable() for word in words)


@pytest.mark.parametrize("text", ["a\\", "'a", '"a'])
def test_quotes_that_are_not_closed_are_a_sentence(text):
    with pytest.raises(UserError, match=r"^--label .*close the quotes"):
        split_words("--label", text)
    with pytest.raises(UserError, match=r"^--pack .*close the quotes"):
        parse_packing(text)


def test_a_site_that_ends_the_shell_is_a_sentence(tmp_path):
    site = tmp_path / "site.sh"
    site.write_text("export A=1\nexit 0\n")
    with pytest.raises(UserError, match=r"site\.sh: it ends bash"):
        slurm.site_environment(str(site))
    with pytest.raises(UserError, match="CACL_CPU_RANKS: 'two'"):
        count_ranks(Machines(), 0, {"CACL_CPU_RANKS": "two"})


def test_a_comment_of_several_lines_breaks_no_queue(tmp_path, monkeypatch):
    (tmp_path / "squeue").write_text(
        "#!/bin/sh\nprintf '1|cacl-train-a|R|1|1|n|runs/a\\nb\\n2|cacl-x|R|1|1|n|c|d\\n'\n"
    )
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [row[0] for row in slurm.queue()] == ["1", "2"] and slurm.queue()[1][6] == "c|d"
