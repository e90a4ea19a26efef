"""The grids of samples in a report: the newest large, and a strip of all."""

from __future__ import annotations

import base64
import json
import pathlib
import struct
from collections.abc import Mapping, Sequence

from PIL import Image

from imagegen_jax.pages.markup import missing, text

GRIDS = 40  # pictures in a page at most, evenly chosen
GRIDS_BYTES = 8 * 2**20  # of all pictures together, about: large ones are fewer
LARGE = 640  # the newest grid is magnified by a whole factor, up to this width in pixels

Picture = tuple[int, int, str]  # width, height, data URL


def shown_grids(grids: Mapping[int, pathlib.Path], row_names: Sequence[str], of_latents: bool) -> str:
    """Shows the newest grid large, with its prompts if it has any, a slider and a strip of all chosen ones."""
    chosen = {step: _png(grids[step]) for step in _choose(grids)}
    pictures = {step: png for step, png in chosen.items() if png}
    if not pictures:
        return missing("samples/*.png")
    newest = max(pictures)
    width, height, source = pictures[newest]
    scale = max(1, LARGE // width)
    names = "".join(f"<li>{text(name)}</li>" for name in row_names)
    looks = (
        "Samples are latents; the pictures show three of their channels, for looking at only. " if of_latents else ""
    )
    fewer = f"{len(pictures)} of {len(grids)} grids, evenly chosen." if len(pictures) < len(grids) else ""
    return (
        f'<figure id="large"{" class=pixels" if scale > 1 else ""}><div><img src="{source}" width="{width * scale}" '
        f'height="{height * scale}" alt="samples"><ol>{names}</ol></div><figcaption>step <b>{newest:,}</b></figcaption>'
        f"</figure>{_strip(pictures) if len(pictures) > 1 else ''}"
        f'{_prompts(grids[newest])}<p class="note">{looks}Noise, and what images are made from, are the same at every '
        f"step. {fewer}</p>"
    )


def _strip(pictures: Mapping[int, Picture]) -> str:
    """Shows all pictures small, with a slider over them."""
    last = len(pictures) - 1
    small = "".join(
        f'<button type="button" data-step="{step:,}"><img src="{source}" alt="" loading="lazy">{step:,}</button>'
        for step, (_, _, source) in pictures.items()
    )
    return (
        '<div class="controls needs-script"><button type="button" id="play">play</button>'
        f'<input type="range" id="when" min="0" max="{last}" value="{last}" aria-label="step of the grid"></div>'
        f'<div id="strip">{small}</div>'
    )


def _choose(grids: Mapping[int, pathlib.Path]) -> list[int]:
    """Chooses the steps to show: evenly spread, with the first and the last, few enough for GRIDS and GRIDS_BYTES."""
    steps = list(grids)
    largest = max((path.stat().st_size for path in grids.values()), default=1)
    most = max(2, min(GRIDS, GRIDS_BYTES // max(largest, 1)))
    if len(steps) <= most:
        return steps
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def _png(path: pathlib.Path) -> Picture | None:
    """Reads the width, the height and the data URL of a PNG; None where the file is no PNG."""
    content = path.read_bytes()
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        return None
    width, height = struct.unpack(">II", content[16:24])  # the header chunk is always the first
    return width, height, f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _prompts(path: pathlib.Path) -> str:
    """Lists the prompts that a grid's metadata name, row by row; nothing without, or where these are damaged."""
    try:
        with Image.open(path) as image:
            named = json.loads(image.info.get("prompts", "[]"))
    except (OSError, ValueError, SyntaxError, TypeError, RecursionError):
        return ""
    items = "".join(f"<li>{text(prompt)}</li>" for prompt in named) if isinstance(named, list) else ""
    return f"<details><summary>prompts, row by row</summary><ol>{items}</ol></details>" if items else ""
