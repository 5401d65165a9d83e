"""Many changed files of a format, each read by the product: nothing but sentences may come of it."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings, strategies

from cacl.errors import LONGEST, UserError
from tests.fuzz.edits import Edit, apply, edits
from tests.fuzz.formats import Format

SECONDS = 20.0
"""What reading may take of a file, on a busy machine."""
Input = tuple[int, bool, list[Edit]]
"""Which file is changed, whether checksums are brought up to date, and what is done to it."""


def inputs() -> strategies.SearchStrategy[Input]:
    """Return the strategy of inputs."""
    return strategies.tuples(strategies.integers(0, 99), strategies.booleans(), edits())


def fuzz(form: Format, folder: Path, examples: int, number: int) -> Counter[str]:
    """Read so many changed files in `folder`; return how many were "read" and "refused".

    Raises what the product raised, with the smallest input that hypothesis finds for it.
    """
    counts: Counter[str] = Counter()
    write(form, folder)

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(inputs())
    def check(given_input: Input) -> None:
        counts[outcome(form, folder, given_input)] += 1

    check()
    return counts


def outcome(form: Format, folder: Path, given_input: Input) -> str:
    """Return "read" or "refused". `folder` holds the whole files before and after."""
    which, sealed, wanted = given_input
    name = form.changed[which % len(form.changed)]
    (folder / name).write_bytes(apply(form.files[name], wanted))
    if sealed and form.seal is not None:
        form.seal(folder)
    try:
        with limited(SECONDS):
            form.read(folder)
    except UserError as error:
        sentence = str(error)
        assert sentence and "\n" not in sentence and len(sentence) <= LONGEST, sentence
        return "refused"
    except OSError as error:  # a name that no file can have; `launch.main` makes a sentence of it
        assert error.filename is not None and error.strerror
        return "refused"
    finally:
        write(form, folder, [name] if form.seal is None or not sealed else form.files)
    return "read"


def write(form: Format, folder: Path, names: Iterable[str] | None = None) -> None:
    """Write whole files, all of them into a new folder unless they are named."""
    if names is None:
        shutil.rmtree(folder, ignore_errors=True)
    for name in form.files if names is None else names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(form.files[name])


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread after `seconds`."""

    def end(number: int, frame: object) -> None:
        raise TimeoutError(f"reading took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
