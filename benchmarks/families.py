"""Who wins at which budget: all families on MNIST and on CIFAR-10, their scores beside what they cost.

    python benchmarks/leaderboard_mnist.py tfds:mnist runs/gpt_mnist ... --samples 5000 --out evaluation_mnist
    python benchmarks/cifar10.py gpt ... --mobilenet FOLDER
    python benchmarks/families.py mnist cifar10

Scores are those that the two others have stored; here is counted what does not depend on the machine: parameters of the
networks that draw, operations of a whole training (of all stages and phases, and of the tokenizer where there is one),
and operations for an image that is drawn. Only products are counted, twice for each multiply-add. How long 1,000 images
take does depend on the machine, and on how many of these operations wait for one another: it is measured here, with
random weights, since it does not depend on them. Writes benchmarks/results/families.json and .png, and prints a table.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from cifar10 import narrowed
from kept import Kept
from machine import RESULTS, write_result

import imagegen_jax as ig
from imagegen_jax.core.drawing.draw import sample
from imagegen_jax.core.model import num_classes
from imagegen_jax.machines import programs
from imagegen_jax.machines.cost import flops_of

MNIST = {  # recipe -> family
    "vae_mnist": "VAE",
    "dcgan_mnist": "GAN",
    "cgan_mnist": "GAN",
    "sngan_mnist": "GAN",
    "wgan_gp_mnist": "GAN",
    "progan_mnist": "GAN",
    "ddpm_mnist": "diffusion",
    "edm_mnist": "diffusion",
    "consistency_mnist": "diffusion",
    "pixelcnn_mnist": "autoregressive",
    "gpt_mnist": "tokens",
}
CIFAR10 = {
    "sngan": "GAN",
    "stylegan2_ada": "GAN",
    "r3gan": "GAN",
    "edm": "diffusion",
    "dit": "diffusion",
    "gpt": "tokens",
}
COLOURS = {"VAE": "C0", "GAN": "C1", "diffusion": "C2", "autoregressive": "C3", "tokens": "C4"}
SCORES = {"fd": "FD-classifier", "precision": "precision", "recall": "recall", "coverage": "coverage"}


def cost(experiment: ig.Experiment, images: int) -> dict[str, Any]:
    """What an experiment's networks are, what training them takes, and what drawing takes."""
    draws = programs.sampler(experiment, 100)
    return {
        "parameters": sum(leaf.size for nets in draws.state.values() for leaf in jax.tree.leaves(nets["params"])),
        "training_tflop": training_tflop(experiment),
        "drawing_mflop": flops_of(draws.program.jaxpr) / draws.images / 1e6,
        "seconds_for_1000": seconds_to_draw(experiment.model, draws.state, images) * 1_000 / images,
    }


def training_tflop(experiment: ig.Experiment) -> float:
    """Operations of all steps of a run, in units of 1e12."""
    steps = programs.training_steps(experiment, experiment.mesh.build())
    return sum(flops_of(step.program.jaxpr) * step.steps for step in steps) / 1e12


def seconds_to_draw(model: Any, shapes: Any, images: int) -> float:
    """Seconds that a second call of the sampler takes, by random weights."""
    rng = np.random.default_rng(0)
    nets = jax.tree.map(lambda leaf: (0.02 * rng.random(leaf.shape)).astype(leaf.dtype), shapes)
    given = {"label": np.arange(images) % 10} if num_classes(model) else {}
    seconds = 0.0
    for _ in range(2):
        begun = time.perf_counter()
        sample(model, nets, images, 0, given)
        seconds = time.perf_counter() - begun
    return seconds


def with_tokenizer(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Adds to a prior's training that of its tokenizer."""
    tokenizer = {"gpt_mnist": "vqvae_mnist", "gpt": "vqgan_cifar10"}.get(name)
    if tokenizer is None:
        return found
    first = training_tflop(importlib.import_module(f"experiments.{tokenizer}").experiment)
    return {**found, "training_tflop": found["training_tflop"] + first, "tokenizer_training_tflop": first}


def scores_mnist(name: str) -> dict[str, float]:
    """The newest scores of 5,000 samples of a recipe's run; {} where there are none."""
    lines = (RESULTS / "evaluation_mnist.jsonl").read_text().splitlines()
    cards = [card for card in map(json.loads, lines) if card["samples"] == 5_000]
    own = {card["metric"]: card["value"] for card in cards if card["images"].startswith(f"runs/{name} at step")}
    return {key: own[metric] for key, metric in {**SCORES, "agreement": "agreement"}.items() if metric in own}


def scores_cifar10(name: str) -> dict[str, float]:
    """The scores of the last checkpoint."""
    last = json.loads((RESULTS / "cifar10.json").read_text())[name]["curve"][-1]
    return {key: last[key] for key in SCORES}


def measured(data: str, images: int, kept: Kept) -> dict[str, Any]:
    """Costs and scores of the models of a data set that have scores."""
    found = {}
    for name, family in (MNIST if data == "mnist" else CIFAR10).items():
        try:
            scores = scores_mnist(name) if data == "mnist" else scores_cifar10(name)
        except KeyError:
            scores = {}
        if not scores:
            print(f"{name}: no scores yet")
            continue
        recipe = importlib.import_module(f"experiments.{name}").experiment if data == "mnist" else narrowed(name)
        costs = kept.part(f"{data} {name}", lambda name=name, recipe=recipe: with_tokenizer(name, cost(recipe, images)))
        found[name] = {"family": family, **scores, **costs}
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown, the smallest training first."""
    lines = [
        "| model | family | parameters | training, TFLOP | an image, MFLOP | 1,000 images | FD | recall | coverage |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(found.items(), key=lambda item: item[1]["training_tflop"]):
        lines.append(
            f"| `{name}` | {row['family']} | {row['parameters'] / 1e6:.2f} M | {row['training_tflop']:,.0f} "
            f"| {row['drawing_mflop']:,.0f} | {row['seconds_for_1000']:.3g} s | {row['fd']:.3g} "
            f"| {row['recall']:.2f} | {row['coverage']:.2f} |"
        )
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """Distance by training, a panel a data set; larger dots cost more to draw."""
    figure, panels = plt.subplots(1, len(results), figsize=(6 * len(results), 4.5), squeeze=False, layout="constrained")
    for axes, (data, found) in zip(panels[0], results.items(), strict=True):
        for name, row in found.items():
            size = 30 * (1 + np.log10(max(row["drawing_mflop"], 1)))
            axes.scatter(row["training_tflop"], row["fd"], s=size, color=COLOURS[row["family"]], alpha=0.7)
            axes.annotate(name.removesuffix("_mnist"), (row["training_tflop"], row["fd"]), fontsize=8)
        axes.set(title=data, xscale="log", yscale="log", xlabel="TFLOP of training", ylabel="Frechet distance")
        axes.margins(x=0.2)
    handles = [plt.Line2D([], [], color=c, marker="o", linestyle="", label=f) for f, c in COLOURS.items()]
    panels[0][0].legend(handles=handles, fontsize=8)
    figure.savefig(RESULTS / "families.png", dpi=120, bbox_inches="tight")


def main() -> None:
    """Counts, times, writes and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", choices=("mnist", "cifar10"))
    parser.add_argument("--images", type=int, default=200, help="that are drawn to see how long it takes")
    options = parser.parse_args()
    kept = Kept("families", {"images": options.images})
    results = {data: measured(data, options.images, kept) for data in options.data}
    write_result("families", results)
    kept.done()
    draw(results)
    for data, found in results.items():
        print(f"\n{data}\n\n{table(found)}")


if __name__ == "__main__":
    main()
