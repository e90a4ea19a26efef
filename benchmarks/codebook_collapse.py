"""Which quantisers leave most of their codebook unused: the same autoencoder with each, on handwritten digits.

    python benchmarks/codebook_collapse.py --workdir runs

The recipe vqvae_digits with about 256 codes in the place of 64, trained for 1,000 steps a quantiser (in the folder
runs/collapse_NAME: there, or gone on with). Codes in use are counted over the last 1,500 images, an epoch. Writes
benchmarks/results/codebook_collapse.json and .png, and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import pathlib
from typing import Any

import matplotlib.pyplot as plt
from machine import RESULTS, write_result
from reconstructions import measured

import imagegen_jax as ig
from imagegen_jax.autoencoders.quantise import FSQ, LFQ, Codebook, EMACodebook

SIZE = {"codebook_size": 256, "dim": 8}
QUANTISERS = {
    "gradient": Codebook(**SIZE),
    "gradient, l2": Codebook(**SIZE, normalised=True),
    "averages, no restarts": EMACodebook(**SIZE, restart_below=0.0),
    "averages, restarts": EMACodebook(**SIZE),
    "FSQ 8,6,5": FSQ((8, 6, 5)),
    "LFQ, 8 bits": LFQ(8),
}
CURVES = {"codebook_used": "codes in use, share", "codebook_perplexity": "perplexity of a batch", "psnr": "PSNR, dB"}
EPOCH = 1_500  # images


def trained(name: str, steps: int, seed: int, workdir: pathlib.Path) -> ig.Run:
    """The run of a quantiser."""
    recipe = importlib.import_module("experiments.vqvae_digits").experiment
    network = dataclasses.replace(recipe.model.network, quantiser=QUANTISERS[name], use_window=EPOCH)
    word = name.replace(",", "").replace(" ", "_")
    every = {"log_every": 25, "sample_every": steps, "checkpoint_every": steps}
    experiment = dataclasses.replace(
        recipe,
        name=f"collapse_{word}",
        model=dataclasses.replace(recipe.model, network=network),
        steps=steps,
        seed=seed,
        **every,
    )
    return ig.fit(experiment, workdir / f"collapse_{word}_{seed}", quiet=True)


def curves(run: ig.Run) -> dict[str, list[float]]:
    """What the run's metrics say over training."""
    lines = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
    kept = [line for line in lines if "tokenizer/psnr" in line]
    found = {name: [round(line[f"tokenizer/{name}"], 4) for line in kept] for name in CURVES}
    return {"step": [line["step"] for line in kept], **found}


def draw(quantisers: dict[str, Any]) -> None:
    """The curves of all quantisers."""
    figure, panels = plt.subplots(1, len(CURVES), figsize=(16, 4.2))
    for axes, (curve, label) in zip(panels, CURVES.items(), strict=True):
        for name, found in quantisers.items():
            axes.plot(found["curves"]["step"], found["curves"][curve], label=name)
        axes.set(xlabel="training steps", ylabel=label)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=6, bbox_to_anchor=(0.5, -0.08))
    figure.savefig(RESULTS / "codebook_collapse.png", dpi=120, bbox_inches="tight")


def table(quantisers: dict[str, Any]) -> str:
    """The scores of the test digits."""
    rows = ["| quantiser | codes that test digits use | their perplexity | test PSNR, dB |", "|---|---|---|---|"]
    for name, found in quantisers.items():
        score = found["test"]
        used = f"{score['codes_used']} of {score['codebook_size']}"
        rows.append(f"| {name} | {used} | {score['perplexity']} | {score['psnr_db']} ({score['standard_error_db']}) |")
    return "\n".join(rows)


def main() -> None:
    """Trains, measures, writes and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000, help="of each quantiser (default: 1,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of the runs")
    options = parser.parse_args()
    quantisers = {}
    for name in QUANTISERS:
        run = trained(name, options.steps, options.seed, options.workdir)
        images = dataclasses.replace(run.experiment.data, split="test").open().images
        quantisers[name] = {"test": measured(run, images, batch=len(images))[0], "curves": curves(run)}
        print(name, json.dumps(quantisers[name]["test"]), flush=True)
    write_result("codebook_collapse", {"steps": options.steps, "seed": options.seed, "quantisers": quantisers})
    draw(quantisers)
    print(table(quantisers))


if __name__ == "__main__":
    main()
