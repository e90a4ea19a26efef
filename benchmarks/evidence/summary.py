"""The reduced recipes by their seeds: one table, and one figure of quality against what training and drawing cost."""

from __future__ import annotations

import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from imagegen_jax.metrics.student import t_quantile
from imagegen_jax.recipes.shipped import recipes

from . import entries, figures

FIGURE = "seeds.png"
SEEDS = 3
REDUCED = {  # data -> recipes that these processors train in minutes, the cheapest first
    "digits": (
        "factor_mixture_digits", "markov_field_digits", "patch_quilt_digits", "vqvae_digits", "vqvae_var_digits",
        "gpt_digits", "maskgit_digits", "var_digits", "kl_digits", "v_digits", "edm_digits", "ddpm_digits",
        "flow_digits", "pixelcnn_digits", "vdvae_digits", "scm_digits", "progressive_digits", "meanflow_digits",
        "consistency_digits",
    ),
    "mnist": (
        "vqvae_mnist", "vae_mnist", "pixelcnn_mnist", "dcgan_mnist", "cgan_mnist", "sngan_mnist", "gpt_mnist",
        "consistency_mnist", "progan_mnist", "wgan_gp_mnist", "wgan_mnist", "ddpm_mnist", "edm_mnist",
    ),
    "cifar10": ("gpt_cifar10", "vqgan_cifar10", "vae_cifar10"),
}  # fmt: skip
DISTANCE = "FD-classifier"
COLUMNS = {
    DISTANCE: DISTANCE,
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "agreement": "agreement",
    "NLL of test images, nats": "NLL, nats",
    "bits per dimension of test images": "bits/dim",
    "nats of a code of test images": "nats a code",
    "PSNR": "PSNR, dB",
}
WORDS = """\
Means over seeds with Student's 95 % intervals over seeds; of a single seed, the interval of its own score, which knows
nothing of other seeds. Distances are of features of a classifier trained on the real images, so they compare within a
data set. Parameters are of all networks of a run, TFLOP those of its whole training with the tokenizer's, minutes those
of the processors. `python benchmarks/seeds.py digits mnist` adds what is missing.
"""
Group = tuple[str, list[entries.Entry]]  # a recipe, and its runs by seed


def mean_of(scores: Sequence[Mapping[str, Any]]) -> tuple[float, float | None, float | None]:
    """Returns the mean over seeds, and the ends of Student's 95 % interval; of one seed those of its own score."""
    values = [score["value"] for score in scores]
    if len(values) == 1:
        return values[0], scores[0].get("low"), scores[0].get("high")
    mean = statistics.mean(values)
    half = t_quantile(len(values) - 1, 0.975) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def groups(folder: pathlib.Path = entries.FOLDER) -> list[Group]:
    """Returns the recipes that have runs of what they are today, the least training first."""
    names = dict.fromkeys(entry["recipe"] for entry in entries.read(folder))
    of_recipes = [(name, entries.of_experiment(name, folder=folder)) for name in names if name in recipes()]
    found = [(name, of) for name, of in of_recipes if of]
    return sorted(found, key=lambda group: group[1][0]["training_tflop"])


def section(folder: pathlib.Path = entries.FOLDER) -> list[str]:
    """Returns the lines of the page: the figure, a table for each data set, and what is missing."""
    found = groups(folder)
    lines = ["## Reduced recipes, by seeds", "", WORDS]
    if (folder / FIGURE).exists():
        lines += [f"![](../benchmarks/results/{FIGURE})", ""]
    for data in dict.fromkeys(recipes()[name].data for name, _ in found):
        lines += [f"### {data}", "", *table([group for group in found if recipes()[group[0]].data == data]), ""]
    return [*lines, *_missing(found), ""]


def table(found: Sequence[Group]) -> list[str]:
    """Returns Markdown with a column for each score that any of the recipes has."""
    scores = [score for score in COLUMNS if any(score in of[0]["scores"] for _, of in found)]
    heads = ["recipe", "seeds", *(COLUMNS[score] for score in scores), "parameters", "TFLOP", "minutes", "s for 1,000"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, of in found:
        cells = [f"`{name}`", str(len(of)), *(_cell(of, score) for score in scores)]
        minutes = statistics.mean(entry["training_processor_minutes"] for entry in of)
        drawn = [entry["processor_seconds_for_1000"] for entry in of if "processor_seconds_for_1000" in entry]
        cells += [f"{of[0]['parameters'] / 1e6:.2f} M", f"{of[0]['training_tflop']:.3g}", f"{minutes:.1f}"]
        lines.append(f"| {' | '.join([*cells, f'{statistics.mean(drawn):.2g}' if drawn else ''])} |")
    return lines


def _cell(of: Sequence[entries.Entry], score: str) -> str:
    given = [entry["scores"][score] for entry in of if score in entry["scores"]]
    if not given:
        return ""
    mean, low, high = mean_of(given)
    return f"{mean:.3g}" if low is None or high is None else f"{mean:.3g} [{low:.3g}, {high:.3g}]"


def _missing(found: Sequence[Group]) -> list[str]:
    seeds = {name: len(of) for name, of in found}
    lines = [f"Missing of {SEEDS} seeds each:", ""]
    for data, names in REDUCED.items():
        short = [f"`{name}` {SEEDS - seeds.get(name, 0)}" for name in names if seeds.get(name, 0) < SEEDS]
        lines.append(f"- {data}: {', '.join(short) or 'none'}")
    return lines


def draw(folder: pathlib.Path = entries.FOLDER) -> None:
    """Draws distance against operations of training and of an image, a row of panels a data set, and stamps it."""
    import matplotlib.pyplot as plt

    found = [(name, of) for name, of in groups(folder) if DISTANCE in of[0]["scores"]]
    data = list(dict.fromkeys(recipes()[name].data for name, _ in found))
    if not data:
        return
    figure, panels = plt.subplots(len(data), 2, figsize=(12, 4.5 * len(data)), squeeze=False, layout="constrained")
    for row, of_data in zip(panels, data, strict=True):
        for axes, cost, label in zip(
            row, ("training_tflop", "drawing_mflop"), ("training, TFLOP", "an image, MFLOP"), strict=True
        ):
            for number, (name, of) in enumerate(group for group in found if recipes()[group[0]].data == of_data):
                mean, low, high = mean_of([entry["scores"][DISTANCE] for entry in of])
                ends = [[mean - max(low or mean, mean / 10)], [(high or mean) - mean]]
                at = max(of[0][cost], 1e-6)
                axes.errorbar([at], [mean], yerr=ends, fmt="o", color=f"C{number % 10}", capsize=3)
                short = name.rpartition("_")[0]
                axes.annotate(f"{short} ({len(of)})", (at, mean), fontsize=8, xytext=(4, 3), textcoords="offset points")
            axes.set(xscale="log", yscale="log", xlabel=label, ylabel=DISTANCE, title=f"{of_data}, seeds in brackets")
            axes.margins(x=0.25)
    figure.savefig(folder / FIGURE, dpi=110)
    figures.stamp(FIGURE, [name for name, _ in found], folder)
