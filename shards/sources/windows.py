"""The windows of long films: how many fit into each, and which are silent, found before anything is packed.

A film lasts as long as its packets do, picture and sound both; headers are not asked. One pass over the
packets tells it, in processes of their own, for a file may crash what reads it; --skip-silence decodes the
sound on the way. What was found is kept in the cache folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cacl.media.sound import SoundLine
from cacl.media.tracks import frames_in
from shards.clip import Array
from shards.noted import note_path, noted
from shards.progress import progress
from shards.sources.cuts import window_start
from shards.sources.media import BrokenMedia
from shards.sources.video import FilmFile, film_tracks, open_film
from shards.workers import Done, Report, run_jobs

SILENT = -60.0
"""dBFS: the mean power of all channels over a window below which it is silent; 0 is that of ±1 throughout."""
MOST = 100_000
"""Windows of one film."""
_ROUNDED = 0.1
"""Seconds that the last window may lack: a packet of sound, or the rounding of clocks."""
_BROKEN_CLOCK = 3600.0
"""Seconds between two packets from which on a clock is broken; the film ends before them."""
_STRIDE = 2**26
"""Bytes that are read between two signs of life."""
_VERSION = 1


@dataclass(frozen=True)
class Windows:
    """How films are cut."""

    every: float
    """Seconds from one window's beginning to the next one's."""
    seconds: float
    """Length of a window."""
    skip_silence: bool = False
    """Whether it is asked which ones are silent."""


@dataclass(frozen=True)
class FilmWindows:
    """The windows of one film."""

    length: float = 0.0
    """Of the film, in seconds; 0 where it cannot be read."""
    count: int = 0
    silent: tuple[int, ...] = ()
    """Numbers of those that are silent, ascending."""


def find_windows(paths: list[Path], windows: Windows) -> list[FilmWindows]:
    """Return the windows of each film; films that cannot be read have none.

    Raises UserError where the storage fails.
    """
    found: dict[int, FilmWindows] = {}
    there = [[number] for number, path in enumerate(paths) if path.exists()]
    workers = min(os.cpu_count() or 1, len(there))
    with progress(desc="looking for windows", total=len(there), unit="film") as bar:
        for event in run_jobs(_Finder(tuple(paths), windows), there, workers):
            if isinstance(event, Done):
                found[event.number] = event.result
                bar.update()
    return [found.get(number, FilmWindows()) for number in range(len(paths))]


@dataclass(frozen=True)
class _Finder:
    """The job of a process: look through one film."""

    paths: tuple[Path, ...]
    windows: Windows

    def __call__(self, number: int, crashed: dict[int, str], report: Report) -> FilmWindows:
        """Return the windows of film `number`; none of one that crashes its decoder, as packing will say."""
        report(number)
        if number in crashed:
            return FilmWindows()
        path = self.paths[number]
        note = note_path(path, "windows", *asdict(self.windows).values())
        values = noted(note, _VERSION, lambda: asdict(_look(path, self.windows, partial(report, number))))
        return FilmWindows(values["length"], values["count"], tuple(values["silent"]))


def _look(path: Path, windows: Windows, tick: Callable[[], None]) -> FilmWindows:
    """Pass over a film's packets, calling `tick` now and then. Raises OSError when the storage fails."""
    import av

    found = _Pass(windows)
    try:
        with FilmFile(path) as file:
            try:
                with open_film(file) as film:
                    found.run(film, file, tick)
            # What cannot be read ends a film; packing says why of the windows that it hits.
            except (av.FFmpegError, ValueError, OverflowError, MemoryError, EOFError):
                if file.fault is not None:
                    raise file.fault from None
    except BrokenMedia:
        return FilmWindows()
    last = (found.length + _ROUNDED - windows.seconds) / windows.every
    count = 0 if last < 0 else min(int(last) + 1, MOST)
    return FilmWindows(found.length, count, found.loudness.silent(count) if windows.skip_silence else ())


class _Pass:
    """One pass over the packets of a film: when picture and sound end, and how loud it is."""

    def __init__(self, windows: Windows) -> None:
        self.listening = windows.skip_silence
        self.loudness = _Loudness(windows)
        self._ends: dict[int, float] = {}
        self._line = SoundLine()

    @property
    def length(self) -> float:
        """Seconds up to which there are picture and sound."""
        return max(0.0, min(self._ends.values(), default=0.0))

    def run(self, film: Any, file: FilmFile, tick: Callable[[], None]) -> None:
        """Read all packets. Raises what PyAV raises."""
        video, audio = film_tracks(film)
        origin, ticked = (film.start_time or 0) / 1e6, 0
        self._line = SoundLine(origin)
        self._ends = {video.index: 0.0, audio.index: 0.0}
        for packet in film.demux(video, audio):
            if file.tell() > ticked + _STRIDE:  # a reader that goes round in a circle gives no sign
                ticked = file.tell()
                tick()
            if not self._follow(packet, origin):
                return
            if self.listening and packet.stream is audio:
                self._listen(packet, origin)

    def _follow(self, packet: Any, origin: float) -> bool:
        """Move the end of the packet's track; say whether its clock can be followed."""
        end, second = self._ends[packet.stream_index], float(packet.time_base or 0)
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None and not packet.size:
            return True
        time = end if stamp is None else stamp * second - origin
        if time > end + _BROKEN_CLOCK:
            return False
        self._ends[packet.stream_index] = max(end, time + (packet.duration or 0) * second)
        return True

    def _listen(self, packet: Any, origin: float) -> None:
        """Add a packet's energy, or hear no more where it cannot be decoded."""
        import av

        try:
            for frame in frames_in(packet):
                for piece in self._line.follow(frame):
                    power = np.square(piece.samples, dtype=np.float64).mean(axis=1)
                    self.loudness.add(piece.time - origin, self._line.end - origin, power)
        except (av.FFmpegError, ValueError):
            self.listening = False


class _Loudness:
    """The energy of a sound, mean power times seconds, when windows begin and when they end."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self._energy = self._heard = 0.0
        """Of all that was heard, and up to when."""
        self._at_start: list[float] = []
        self._at_end: list[float] = []

    def add(self, begin: float, end: float, power: Array) -> None:
        """Hear what comes next, `power` [t] from `begin` to `end`, seconds; before the first it is silent."""
        times = np.linspace(begin, end, len(power) + 1)
        energy = self._energy + np.append(0.0, np.cumsum(power)) * (end - begin) / max(1, len(power))
        for moments, offset in ((self._at_start, 0.0), (self._at_end, self.windows.seconds)):
            while (moment := window_start(len(moments), self.windows.every) + offset) < end:
                moments.append(float(np.interp(moment, times, energy)))
        self._energy, self._heard = float(energy[-1]), end

    def silent(self, count: int) -> tuple[int, ...]:
        """Return which of the first `count` windows were heard to their end and are silent."""
        limit = 10 ** (SILENT / 10) * self.windows.seconds
        if self._heard + 2 * _ROUNDED >= window_start(count - 1, self.windows.every) + self.windows.seconds:
            self._at_end += [self._energy] * (count - len(self._at_end))
        both = zip(self._at_start, self._at_end[:count], strict=False)
        return tuple(number for number, (before, after) in enumerate(both) if after - before < limit)
