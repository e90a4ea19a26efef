"""Videos: a GIF by Pillow, or an MP4 by ffmpeg, which the extra "video" brings."""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import UInt8

from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.core.provenance.videos import gif_with, mp4_box
from imagegen_jax.core.provenance.xmp import packet_of
from imagegen_jax.data.pictures.output import kind_of, opaque

Frame = UInt8[np.ndarray, "h w c"]
FASTEST = {".gif": 50, ".mp4": 120}  # frames a second at most; viewers slow down a GIF that asks for more
QUALITY = 17  # H.264's constant rate factor: 0 without loss, 51 the worst


def check_video(path: str | os.PathLike[str], fps: int) -> None:
    """Raises ValueError where `path` is neither .gif nor .mp4, `fps` out of range, or there is no ffmpeg for it."""
    suffix = kind_of(path)
    if suffix not in FASTEST:
        raise ValueError(f"{path}: a video is a .gif or an .mp4")
    if not 1 <= fps <= FASTEST[suffix]:
        raise ValueError(f"{fps} frames a second: a {suffix} has 1 to {FASTEST[suffix]}")
    if suffix == ".mp4" and not _ffmpeg():
        raise ValueError(
            f"{path}: an .mp4 needs ffmpeg, which `pip install 'imagegen_jax[video]'` brings (or `pip install "
            "imageio-ffmpeg`); a .gif needs nothing"
        )


def write_video(path: str | os.PathLike[str], frames: Iterable[Frame], fps: int, origin: Origin | None = None) -> None:
    """Writes frames of one shape, of 1, 3 or 4 channels, as a .gif that repeats for ever or as an .mp4.

    Its metadata say its origin; None is for those that are to say nothing. The file appears whole or not at all;
    transparent pixels turn white. The frames of a GIF last whole hundredths of a second. Frames of an MP4 with an odd
    number of rows or columns get one more, a copy of the last. Raises ValueError as `check_video` does, and where there
    are no frames.
    """
    check_video(path, fps)
    write = _write_gif if kind_of(path) == ".gif" else _write_mp4
    rest = (opaque(frame) for frame in frames)
    first = next(rest, None)
    if first is None:
        raise ValueError(f"{path}: a video without frames")
    with whole(path) as partial:
        write(partial, first, rest, fps, b"" if origin is None else packet_of(origin))


def _write_gif(path: pathlib.Path, first: Frame, rest: Iterator[Frame], fps: int, packet: bytes) -> None:
    from PIL import Image

    def picture(frame: Frame) -> Image.Image:
        return Image.fromarray(frame[..., 0] if frame.shape[2] == 1 else frame)

    duration = 10 * round(100 / fps)  # milliseconds
    content = io.BytesIO()  # as in `write_picture`
    settings = {"save_all": True, "append_images": map(picture, rest), "duration": duration, "loop": 0}
    picture(first).save(content, format="GIF", **settings)
    path.write_bytes(gif_with(packet, content.getvalue()) if packet else content.getbuffer())


def _write_mp4(path: pathlib.Path, first: Frame, rest: Iterator[Frame], fps: int, packet: bytes) -> None:
    # imageio_ffmpeg.write_frames would fork this process with all its threads, and jax warns of forks.
    height, width = (side + side % 2 for side in first.shape[:2])
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    encoded = ["-c:v", "libx264", "-crf", str(QUALITY), "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [_ffmpeg(), "-y", "-loglevel", "error", *raw, *encoded, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for frame in itertools.chain([first], rest):
            colour = np.broadcast_to(frame, (*frame.shape[:2], 3))
            edge = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
            process.stdin.write(np.pad(colour, edge, mode="edge").tobytes())
    if process.returncode:
        raise OSError(f"{path}: ffmpeg ended with code {process.returncode}")
    if packet:
        with path.open("ab") as file:
            file.write(mp4_box(packet))


def _ffmpeg() -> str:
    """Finds the ffmpeg that the extra brings, else one that is installed; "" where there is none."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return shutil.which("ffmpeg") or ""
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()
