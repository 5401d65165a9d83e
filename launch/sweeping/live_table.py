"""The live table of a sweep: drawn over itself on a terminal, a line a change in a log."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from ray.tune import Callback

from launch.table import align

_SECONDS_BETWEEN_DRAWS = 1.0


class LiveTable(Callback):
    """Shows every trial: its state, step and objective."""

    def __init__(self, names: list[str]) -> None:
        self.rows = {name: ("waiting", "", "") for name in names}
        self.line_count, self.time_drawn = 0, 0.0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show that a trial runs."""
        self._show(trial, "running")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Show a trial's newest objective."""
        self._show(trial, "running", result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show that a trial has ended, by itself or by the scheduler."""
        self._show(trial, "ended", always=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show that a trial has failed."""
        self._show(trial, "failed", always=True)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show that a trial has crashed and is started again."""
        self._show(trial, "crashed, starts again", always=True)

    def _show(
        self, trial: Any, state: str, result: dict[str, Any] | None = None, always: bool = False
    ) -> None:
        name = trial.config["trial"]["name"]
        _, step, objective = self.rows[name]
        if result and "objective" in result:
            step, objective = str(result["step"]), f"{result['objective']:.4f}"
        self.rows[name] = (state, step, objective)
        if sys.stderr.isatty():
            if always or time.monotonic() - self.time_drawn > _SECONDS_BETWEEN_DRAWS:
                self._redraw(sys.stderr)
        else:
            print(
                f"{name}: {state} step {step or '-'} objective {objective or '-'}",
                file=sys.stderr,
                flush=True,
            )

    def _redraw(self, terminal: TextIO) -> None:
        lines = align(
            ["trial", "state", "step", "objective"], [[name, *row] for name, row in self.rows.items()]
        )
        if self.line_count:
            terminal.write(f"\x1b[{self.line_count}F\x1b[J")
        terminal.write("\n".join(lines) + "\n")
        terminal.flush()
        self.line_count, self.time_drawn = len(lines), time.monotonic()
