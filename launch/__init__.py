"""One thin module per job a person runs, the recipes, and the one command `cacl`."""

import os
import sys


def _current_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# `python -m launch.…` puts the current folder first where modules are looked for. A `torch.py` in a
# downloaded folder must not be run, so it is taken out again, unless it is where this package lies. Nothing
# but built-in modules may be imported before this.
if sys.argv[:1] == ["-m"] and sys.path[:1] == [_current_folder()] and _current_folder() != _ROOT:
    del sys.path[0]


class WithoutCurrentFolder:
    """Let no process that is started within, rank or worker, look for modules in the current folder."""

    def __enter__(self) -> None:
        """Set what children inherit."""
        self._before = {name: os.environ.get(name) for name in ("PYTHONSAFEPATH", "PYTHONPATH")}
        os.environ["PYTHONSAFEPATH"] = "1"
        if _current_folder() == _ROOT:  # where nothing else may lead to the package
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, self._before["PYTHONPATH"]]))

    def __exit__(self, *_: object) -> None:
        """Restore the environment."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
