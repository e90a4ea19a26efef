"""Whether pictures show what their prompts name: a dual encoder looks for the right prompt among 20 (R-precision).

    python benchmarks/retrieval.py runs/emoji_text runs/emoji_dual_encoder

Pictures are drawn by names that training has shown, by names that were held out and have words of the others alone, and
for comparison the real pictures of both are looked at, and pictures drawn by another name than the one looked for,
which is chance: 5 %. Intervals are Wilson's, of 95 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from machine import RESULTS, write_result

import imagegen_jax as ig
from imagegen_jax.core.arrays.image import to_float
from imagegen_jax.core.provenance.origin import origin_of
from imagegen_jax.core.run import Run
from imagegen_jax.data.pictures.captions import by_prompt
from imagegen_jax.data.pictures.output import write_picture
from imagegen_jax.data.source import Dataset
from imagegen_jax.metrics.features.dual_encoder import retrieved
from imagegen_jax.metrics.scores.interval import proportion_interval

SHOWN = 16  # names of each part in the picture


def main() -> None:
    """Draws by names, looks for them and counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="draws by text, and was trained on a part of captioned pictures")
    parser.add_argument("encoder", help="the run of a dual encoder of the same pictures")
    parser.add_argument("--among", type=int, default=20)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--n", type=int, default=200, help="names of each part, at most")
    options = parser.parse_args()
    run, encoder = ig.load(options.run), ig.load(options.encoder)
    parts = named_parts(run, options.n)
    rows = []
    for part, (names, pictures) in parts.items():
        rows.append({"pictures": "real", "names": part, **found(encoder, parts, pictures, names, options.among)})
        for scale in options.guidance:
            drawn = run.sample(prompts=names, guidance=scale, seed=1)
            row = {"pictures": "drawn", "names": part, "guidance": scale}
            rows.append({**row, **found(encoder, parts, drawn, names, options.among)})
        turned = [*names[1:], names[0]]
        rows.append(
            {"pictures": "of other names", "names": part, **found(encoder, parts, drawn, turned, options.among)}
        )
        shown = [name for name in names[:SHOWN] for _ in range(4)]
        picture = by_prompt(run.sample(prompts=shown, guidance=3.0), shown, 4)
        origin = origin_of(run.workdir, run.experiment.name, run.step, prompts=shown)
        write_picture(pathlib.Path(RESULTS, f"emoji_text_{part.replace(' ', '_')}.png"), picture, origin)
    result = {"run": run.experiment.name, "step": run.step, "among": options.among, "rows": rows}
    write_result("retrieval", result)


def named_parts(run: Run, most: int) -> dict[str, tuple[list[str], np.ndarray]]:
    """Returns names and pictures that training has shown, and those held out whose words it knows."""
    data = run.experiment.data
    seen = data.open()
    out = dataclasses.replace(data, source=dataclasses.replace(data.source, held_out=True)).open()
    known = [row for row in range(len(out)) if not run.tokenizer.unknown(out.captions[row][0])]
    evenly = np.linspace(0, len(seen) - 1, min(most, len(seen))).astype(int)
    return {"seen": taken(seen, evenly), "held out": taken(out, known[:most])}


def taken(data: Dataset, rows: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """Returns the first caption and the picture of each of some rows."""
    return [data.captions[int(row)][0] for row in rows], np.asarray(data.images[rows])


def found(encoder: Run, parts: Any, images: np.ndarray, names: Sequence[str], among: int) -> dict[str, Any]:
    """Returns in percent how often the name of a picture is found, with its interval; others are of the same parts."""
    every = list(dict.fromkeys([*names, *(name for others, _ in parts.values() for name in others)]))
    model, tokens = encoder.experiment.model, encoder.tokenizer.encode(every)
    texts = np.asarray(model.embed_texts(encoder.nets, tokens.tokens, tokens.mask))
    own = np.asarray([every.index(name) for name in names])
    right = retrieved(np.asarray(model.embed_images(encoder.nets, to_float(images))), texts, own, among, seed=0)
    share = proportion_interval(float(right.mean()), len(right))
    return {"images": len(right), "found": [round(100 * value, 1) for value in share]}


if __name__ == "__main__":
    main()
