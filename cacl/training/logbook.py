"""Where a training's lines go: train.jsonl, other sinks, and the terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from cacl.runs.directory import Run
from cacl.training.sinks import SINKS, SinkName


class Logbook:
    """Writes the lines of a training, on rank 0; on other ranks it is not made."""

    def __init__(self, run: Run, sinks: tuple[SinkName, ...], first_step: int, last_step: int) -> None:
        self.run, self.last_step = run, last_step
        self._first: tuple[int, float] | None = None
        self.sinks = [SINKS[name](run.folder) for name in sinks]
        shown = sys.stderr.isatty()
        self._bar = tqdm(total=last_step, initial=first_step, unit="step", desc="train", disable=not shown)

    def write_step(self, line: dict[str, Any]) -> None:
        """Log a step and show it."""
        self.write(line)
        self._bar.update(line["step"] - self._bar.n)
        self._bar.set_postfix(loss=f"{line['loss']:.4f}", refresh=False)
        left = self._time_left(line["step"])
        every = max(1, self.last_step // 20)
        if self._bar.disable and (line["step"] % every == 0 or line["step"] == self.last_step):
            self.say(
                f"step {line['step']}/{self.last_step} epoch {line['epoch']} loss {line['loss']:.4f} "
                f"{line['clips_per_second']:.1f} clips/s, waiting for data {line['data_wait_share']:.0%}"
                f"{left}"
            )

    def _time_left(self, step: int) -> str:
        """Return how long the rest takes at the speed since the first step; "" where nothing tells it."""
        now = time.monotonic()
        self._first = self._first or (step, now)
        taken, seconds = step - self._first[0], now - self._first[1]
        if not taken or step >= self.last_step:
            return ""
        return f", {tqdm.format_interval(seconds / taken * (self.last_step - step))} left"

    def write_validation(self, step: int, measured: dict[str, float]) -> None:
        """Log what was measured on the validation clips after `step`, and show it."""
        self.write({"step": step, "validation": measured})
        figures = ", ".join(f"{name} {value:.4g}" for name, value in measured.items())
        self.say(f"step {step}/{self.last_step} validation: {figures}")

    def write(self, line: dict[str, Any]) -> None:
        """Log a line, without showing it."""
        self.run.log(line)
        for sink in self.sinks:
            sink.log(line)

    def say(self, sentence: str) -> None:
        """Print a sentence, above the progress bar if there is one."""
        tqdm.write(sentence, file=sys.stderr)
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the terminal and the other logs in order."""
        self._bar.close()
        for sink in self.sinks:
            sink.close()
