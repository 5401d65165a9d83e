"""The command `cacl`: one table from verb to module of `launch.verbs`.

Each module has `add_arguments(parser)` and `main(arguments) -> int | None`, imports nothing heavy at its top
(`cacl --help` must not import torch), and opens with the command that runs it. Where it sets
`takes_overrides` among its parser's defaults, it finds what it did not declare, such as
`--optimizer.learning-rate 1e-3`, in `arguments.overrides`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import re
import sys
import warnings
from typing import Any

import cacl
from cacl.errors import Remark, UserError, meant
from cacl.extras import named_extras
from cacl.processes import end_within
from launch import WithoutCurrentFolder
from launch.config import word_at_home
from launch.ranks import NAMES_SAID, end_with_torchrun
from launch.terminal import one_line, terminal

_PYTHONS = warnings.showwarning
_EXIT_SECONDS = 30
"""How long a command may take to end once its work is over or has failed."""
_OF_FILES = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR,
    errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE,
    errno.EMFILE, errno.ENFILE,
}  # fmt: skip
"""Errors that a file system makes, not we: a folder that is read-only or not there, a full disk."""
_CHOICE = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)")
"""What argparse says of a word that is none of a few."""
_VALUES = {
    "Path": "PATH",
    "int": "N",
    "count": "N",
    "positive": "N",
    "float": "X",
    "nonnegative": "X",
    "share": "X",
}
"""What stands for an option's value in a help text, by what reads it."""
_OPTION = re.compile(r"--[a-z][a-z-]*")

VERBS = {
    "pack": ("pack", "write clips of a source into WebDataset shards"),
    "scenes": ("scenes", "say what scenes can be made of, or make films of them"),
    "shards": ("shards", "show, verify, draw or audit packed shards"),
    "label": ("label", "predict a pseudo-label for every clip with a frozen classifier"),
    "labels": ("labels", "report on label tables, cluster, fuse, compare"),
    "train": ("train", "train from a recipe, on one process or many"),
    "evaluate": ("evaluate", "measure a run by a protocol"),
    "calibrate": ("calibrate", "fit the threshold above which a run says that something sounds"),
    "export": ("export", "write a trained model and its recipe into one file"),
    "import": ("import_", "make a run of a released SLAVC, EZ-VSL or FNAC checkpoint"),
    "compare": ("compare", "say whether one run is better than another, and how sure that is"),
    "report": ("report", "write a run's HTML report"),
    "localize": ("localize", "show where the sound is in a film, or a picture and a sound"),
    "runs": ("runs", "list runs, or lay some side by side"),
    "config": ("config", "print a recipe with every default filled in"),
    "submit": ("submit", "send jobs to a SLURM cluster, or show them"),
    "sweep": ("sweep", "try settings of a recipe with Ray Tune"),
    "doctor": ("doctor", "say what this machine can do and what is missing"),
    "wheels": ("wheels", "collect what a machine without a network lacks"),
    "demo": ("demo", "the whole way on real photographs and sounds"),
}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Options whose value has no name show its kind: PATH, N or X."""

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        kind = getattr(action.type, "__name__", "")
        return _VALUES.get(kind) or super()._get_default_metavar_for_optional(action)


class _Parser(argparse.ArgumentParser):
    """Errors in the arguments are one sentence on one line, with the word that was probably meant.

    Those of sub-verbs are parsers of this class too.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(**{"formatter_class": _Help, "allow_abbrev": False, **more})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Return what was declared, and keys of a recipe if it takes them; any other word is an error."""
        found, rest = super().parse_known_args(args, namespace)
        overrides = getattr(found, "takes_overrides", False)
        for word in rest:
            option = self._meant(word, 0.8 if overrides else 0.6)
            if not overrides or (option and "." not in word):
                self.error(f"unknown argument {word}{option}")
        return found, rest

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print one line, and exit."""
        choice = _CHOICE.search(message)
        guess = meant(choice[1], re.findall(r"[\w-]+", choice[2])) if choice else ""
        self.exit(2, f"{self.prog}: {message}{guess} (see: {self.prog} --help)\n")

    def _meant(self, word: str, least: float) -> str:
        options = _OPTION.findall(self.format_help()) if word.startswith("--") else []
        return meant(word.partition("=")[0], options, least)


def _help() -> str:
    width = max(map(len, VERBS))
    rows = "\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items())
    return (
        "usage: cacl VERB [options]\n\n"
        "Class-aware contrastive learning for sound source localization.\n\n"
        f"verbs:\n{rows}\n\n"
        "cacl VERB --help tells more of a verb, cacl --version which cacl this is."
    )


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Print a warning of ours as a sentence, and one of a library as Python does."""
    if not issubclass(category, Remark):
        _PYTHONS(message, category, *place, **more)
    elif int(os.environ.get("RANK") or 0) == 0 and NAMES_SAID not in os.environ:
        print(f"cacl: {one_line(str(message))}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code: 0 done, 1 no place to write, 2 bad input, 130 interrupted."""
    with terminal(), WithoutCurrentFolder():
        if argv is not None:
            return _main(argv)
        end_with_torchrun()
        try:
            return _main(sys.argv[1:])
        finally:
            end_within(_EXIT_SECONDS)


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0 if argv else 2
    if argv == ["--version"]:
        print(f"cacl {cacl.__version__}")
        return 0
    verb = argv[0]
    if verb not in VERBS:
        guess = meant(verb, VERBS) or f"; the verbs are: {', '.join(VERBS)}"
        print(f"cacl: there is no verb {verb!r}{guess}", file=sys.stderr)
        return 2
    try:
        with named_extras():
            code = _run(verb, argv[1:])
            sys.stdout.flush()
            return code
    except UserError as error:
        print(f"cacl {verb}: {one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.errno not in _OF_FILES:
            raise
        print(f"cacl {verb}: {one_line(_of_files(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"cacl {verb}: interrupted", file=sys.stderr)
        return 130


def _of_files(error: OSError) -> str:
    """Return the sentence that names the file, where the error knows it, and what the system says of it."""
    names = " → ".join(os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None)
    return (
        f"{names or 'writing'}: {error.strerror or error}; mend the folder, make room, or name another place"
    )


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb's words."""
    module = importlib.import_module(f"launch.verbs.{VERBS[verb][0]}")
    parser = _Parser(prog=f"cacl {verb}", description=module.__doc__)
    module.add_arguments(parser)
    return parser


def _run(verb: str, words: list[str]) -> int:
    arguments, rest = parser_of(verb).parse_known_args([word_at_home(word) for word in words])
    arguments.overrides = rest
    warnings.showwarning = _show_warning
    return importlib.import_module(f"launch.verbs.{VERBS[verb][0]}").main(arguments) or 0


if __name__ == "__main__":
    sys.exit(main())
