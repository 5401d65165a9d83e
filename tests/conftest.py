"""Where the tests find golden values, public lists and a few clips; refuses skips that are not on the committed list."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.signals import hear_all

GOLDEN = Path(os.environ.get("CACL_GOLDEN_DIR") or Path(__file__).parent / "golden")
_ALLOWED = Path(os.environ.get("CACL_ALLOWED_SKIPS") or Path(__file__).parent / "allowed_skips.txt")
_skipped: list[tuple[str, str]] = []

hear_all()


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of the golden values."""
    return GOLDEN


@pytest.fixture(scope="session")
def lists_dir() -> Path:
    """Folder of the public lists; skips where `CACL_LISTS_DIR` does not name one."""
    return _given("CACL_LISTS_DIR", "the public lists")


@pytest.fixture(scope="session")
def real_dir() -> Path:
    """Folder of real photographs, sounds and films; skips where `CACL_REAL_DIR` does not name one."""
    return _given("CACL_REAL_DIR", "real media")


@pytest.fixture(scope="session")
def varied_dir() -> Path:
    """Folder of real cut-outs and recordings, several of a class; skips without `CACL_VARIED_DIR`."""
    return _given("CACL_VARIED_DIR", "real cut-outs and recordings")


def _given(variable: str, what: str) -> Path:
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} is not set: {what} are not redistributed")
    return Path(folder)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 generated clips in shards of 6."""
    from tests.launch.tiny import cacl

    folder = tmp_path_factory.mktemp("data") / "train"
    words = ["--clips", "72", "--shard-size", "6", "--frame-side", "48"]
    answer = cacl("pack", "generated", "--out", str(folder), *words)
    assert answer.returncode == 0, answer.stderr
    return folder


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append((report.nodeid, reason))


def pytest_sessionfinish(session: pytest.Session) -> None:
    lines = _ALLOWED.read_text().splitlines()
    allowed = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    unexpected = [f"{node}: {why}" for node, why in _skipped if not any(text in why for text in allowed)]
    if unexpected:
        print("\nskipped, and not in tests/allowed_skips.txt:\n" + "\n".join(unexpected))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    return val.stem if isinstance(val, Path) else None
