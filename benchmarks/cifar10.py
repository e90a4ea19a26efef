"""CIFAR-10 in minutes: GANs, EDM, a DiT and a GPT, narrowed for two CPU cores, and how their FD-MobileNet falls.

    imagegen data prepare tfds:cifar10
    python -m experiments.vqgan_cifar10 --workdir runs/vqgan_cifar10 --pretrained.perceptual ...   for gpt
    python benchmarks/cifar10.py --mobilenet FOLDER --workdir runs sngan stylegan2_ada r3gan edm dit gpt

Each trains its recipe with the changes in NARROW (runs/NAME: there, or gone on with); then a distance is measured from
each of its checkpoints, 2,000 samples against the 10,000 test images, and of a mixture of Gaussians fitted to the
training pixels, which is the baseline. Writes benchmarks/results/cifar10.json and .png, and a grid for each run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from machine import RESULTS, write_result
from pixel_mixture import COMPONENTS, DIMENSIONS, PixelMixture
from stacked_modes import seconds_of

import imagegen_jax as ig
from imagegen_jax.core.checkpoints.stored import Stored
from imagegen_jax.core.drawing.grid import grid, write_png
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.core.reporting.summary import parameter_summary
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.times import LogitNormal
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.heun import Heun
from imagegen_jax.metrics.evaluate import evaluate
from imagegen_jax.metrics.features.extractor import Extractor
from imagegen_jax.metrics.features.mobilenet import mobilenet
from imagegen_jax.metrics.sets import ArraySet, ImageSet, source_set
from imagegen_jax.nn.backbones.dit import DiT

CHECKPOINTS = 5
AVERAGE = {"ema": HalfLife(20_000, networks=("generator",))}

# What is changed of the recipes, so that GANs train in 20 minutes and diffusion models in 30.
NARROW: dict[str, tuple[str, dict[str, Any]]] = {
    "sngan": (
        "sngan_cifar10",
        {
            "steps": 3_000,
            "model.num_classes": 10,
            "model.generator.width": 16,
            "model.generator.multipliers": (8, 8, 4, 2),
            "model.discriminator.width": 16,
            "model.discriminator.multipliers": (2, 4, 8, 8),
            "model.discriminator.halvings": 3,
            "model.discriminator_steps": 1,
            "model.generator_batches": 1,
            "optim.generator": Adam(4e-4, b1=0.0, b2=0.9),
            "optim.discriminator": Adam(8e-4, b1=0.0, b2=0.9),
            "averages": AVERAGE,
        },
    ),
    "stylegan2_ada": (
        "stylegan2_ada_cifar10",
        {
            "steps": 2_000,
            "batch_size": 32,
            "model.latent_dim": 64,
            "model.generator.style_dim": 64,
            "model.generator.channel_base": 1_024,
            "model.generator.channel_max": 64,
            "model.discriminator.channel_base": 1_024,
            "model.discriminator.channel_max": 64,
            "averages": AVERAGE,
        },
    ),
    "r3gan": (
        "r3gan_cifar10",
        {
            "steps": 2_000,
            "batch_size": 32,
            **{f"model.{network}.stages.widths": (64, 48, 32, 16) for network in ("generator", "discriminator")},
            **{f"model.{network}.stages.groups": (4, 3, 2, 1) for network in ("generator", "discriminator")},
            **{f"model.{network}.stages.blocks": (1, 1, 1, 1) for network in ("generator", "discriminator")},
            "model.gamma_steps": 2_000,
            "optim.generator": Adam(CosineDecay(5e-4, 1e-4), b1=0.0, b2=CosineDecay(0.9, 0.99)),
            "optim.discriminator": Adam(CosineDecay(5e-4, 1e-4), b1=0.0, b2=CosineDecay(0.9, 0.99)),
            "averages": AVERAGE,
        },
    ),
    "edm": (
        "edm_cifar10",
        {
            "steps": 6_000,
            "batch_size": 32,
            "model.network.width": 32,
            "model.network.multipliers": (1, 2, 2),
            "model.network.blocks": 1,
            "model.network.attention_at": (8,),
            "model.network.dropout": 0.0,
            "model.augment": None,
            "augment": (HorizontalFlip(),),
            "optim.network": Adam(CosineDecay(2e-3, warmup=200)),
            "averages": {"ema": HalfLife(20_000)},
            "clip_norm": 1.0,
            "model.levels.steps": 16,
            "model.solver": DPMSolver(2),
        },
    ),
    "dit": (  # by flow matching, as SiT (2401.08740)
        "otcfm_cifar10",
        {
            "steps": 8_000,
            "batch_size": 32,
            "model.network": DiT(patch=4, depth=6, width=128, heads=4),
            "model.time_scale": 1000.0,
            "model.num_classes": 10,
            "model.coupling": "independent",
            "model.times": LogitNormal(),
            "model.levels.steps": 10,
            "model.solver": Heun(path=RectifiedFlow()),
            "optim.network": Adam(CosineDecay(1e-3, warmup=200)),
            "averages": {"ema": HalfLife(20_000)},
        },
    ),
    "gpt": ("gpt_cifar10", {"steps": 3_000}),  # over the codes of runs/vqgan_cifar10
}


def narrowed(name: str) -> ig.Experiment:
    """The recipe with its changes, and checkpoints for the curve."""
    recipe, changes = NARROW[name]
    every = changes["steps"] // CHECKPOINTS
    log = {
        "name": f"cifar10_{name}",
        "checkpoint_every": every,
        "sample_every": every,
        "keep_checkpoints": 99,
        "log_every": 50,
    }
    return ig.override(importlib.import_module(f"experiments.{recipe}").experiment, changes | log)


def measure(images: ImageSet, test: ImageSet, extractor: Extractor) -> dict[str, float | None]:
    """FD-MobileNet with its interval, and coverage."""
    cards = {card.metric: card for card in evaluate(images, test, extractor, ["fid", "prdc"], quiet=True)}
    distance = cards[extractor.name]
    return {
        "fd": distance.value,
        "low": distance.low,
        "high": distance.high,
        **{share: cards[share].value for share in ("precision", "recall", "coverage")},
    }


def trained(name: str, workdir: pathlib.Path, samples: int, test: ImageSet, extractor: Extractor) -> dict[str, Any]:
    """Trains, measures each checkpoint and draws a grid."""
    experiment = narrowed(name)
    folder = workdir / experiment.name
    run = ig.fit(experiment, folder)
    labels = np.arange(samples) % 10 if experiment.num_classes else None
    curve = []
    for step in Stored(folder / "checkpoints").steps():
        images = ig.load(folder, step=step).sample(samples, labels, seed=1)
        scores = measure(ArraySet(f"{name} at step {step:,}", images, keep=False), test, extractor)
        curve.append({"step": step, **scores})
        print(f"{name} at step {step:,}: {scores}", flush=True)
    write_png(RESULTS / f"cifar10_{name}.png", grid(run.sample(100, None if labels is None else labels[:100]), 10))
    return {
        "recipe": NARROW[name][0],
        "parameters": {network: found["count"] for network, found in parameter_summary(run.state).items()},
        "batch_size": experiment.batch_size,
        "minutes": round(seconds_of(folder, experiment.batch_size) / 60, 1),
        "curve": curve,
    }


def draw(results: dict[str, Any]) -> None:
    """The curves, and the baseline as a line."""
    figure, axes = plt.subplots(figsize=(6, 4))
    for name in NARROW:
        if found := results.get(name):
            seen = [point["step"] * found["batch_size"] / 1_000 for point in found["curve"]]
            axes.plot(seen, [point["fd"] for point in found["curve"]], marker="o", label=name)
    axes.axhline(results["pixel mixture"]["fd"], color="grey", linestyle="--", label="pixel mixture")
    axes.set(xlabel="thousand images seen", ylabel="FD-MobileNet, 2,000 samples", yscale="log")
    axes.legend()
    figure.savefig(RESULTS / "cifar10.png", dpi=120, bbox_inches="tight")


def main() -> None:
    """Trains, measures and draws; models that are not named keep their earlier results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=NARROW)
    parser.add_argument("--mobilenet", required=True, help="folder of MobileNet's weights")
    parser.add_argument(
        "--workdir", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of the runs' folders"
    )
    parser.add_argument("--samples", type=int, default=2_000)
    options = parser.parse_args()
    extractor, test = mobilenet(options.mobilenet, "clean"), source_set(TFDS("cifar10", split="test"))
    path = RESULTS / "cifar10.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if "pixel mixture" not in results:
        mixture = PixelMixture.fit(TFDS("cifar10").open().images, COMPONENTS, DIMENSIONS)
        images = ArraySet("pixel mixture", mixture.sample(options.samples), keep=False)
        results["pixel mixture"] = measure(images, test, extractor)
    for name in options.names:
        results[name] = trained(name, options.workdir, options.samples, test, extractor)
        write_result("cifar10", results)
        draw(results)


if __name__ == "__main__":
    main()
