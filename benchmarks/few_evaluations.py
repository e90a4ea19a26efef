"""Handwritten digits by 1 to 64 evaluations of the network: which objective and solver wins at which budget.

    python benchmarks/few_evaluations.py --workdir runs edm_digits flow_digits ddpm_digits consistency_digits
    python benchmarks/few_evaluations.py --workdir runs --seeds 1 v_digits progressive_digits scm_digits meanflow_digits

Each recipe is trained once a seed, for as long as STEPS has it, about 5 minutes on 2 CPU cores (runs/NAME_SEED: there,
or gone on with), and draws 1,000 digits of all classes alike by each number of evaluations. They are scored against the
1,500 training digits by a classifier of these: FD-classifier, coverage, and the share that is of the class asked for.
What is given is the mean over the seeds, with Student's 95 % interval of it. Recipes that are not named keep their
earlier results. Writes benchmarks/results/few_evaluations.json and .png, and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from machine import RESULTS, write_result
from scipy import stats
from stacked_modes import seconds_of

import imagegen_jax as ig
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.sampling.discrete_time import DDIM, Solve
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.heun import Heun
from imagegen_jax.diffusion.sampling.levels import Listed, Spaced, karras
from imagegen_jax.metrics.catalog import printed
from imagegen_jax.metrics.evaluate import evaluate
from imagegen_jax.metrics.features.classifier import trained_classifier
from imagegen_jax.metrics.sets import SampleSet, source_set

BUDGETS = (1, 2, 4, 8, 16, 32, 64)
SCORES = {"fid": "FD-classifier", "prdc": "coverage", "agreement": "agreement"}  # metric -> the card that is kept
STEPS = {
    "ddpm_digits": 2_500,
    "edm_digits": 2_500,
    "flow_digits": 2_500,
    "v_digits": 2_500,
    "consistency_digits": 1_900,
}
TEACHER = {"progressive_digits": "v_digits"}  # trained with the same seed


class Line(NamedTuple):
    """A line of the figure: a recipe, and what is changed of it to draw by at most `n` evaluations (None: cannot)."""

    recipe: str
    changes: Callable[[int], dict[str, Any] | None]
    evaluations: Callable[[int], int] = lambda n: n


def second_order(changes: dict[str, Any], n: int) -> dict[str, Any] | None:
    """`changes` to DPM-Solver++ 2M, which takes at least two steps."""
    return changes if n > 1 else None


def listed(n: int) -> dict[str, Any]:
    """`changes` to n levels of EDM's, from which a consistency model goes to the image and back."""
    return {"model.levels": Listed(tuple(karras(n + 1, 0.002, 80.0)[:-1].tolist()))}


def heun(solver: Heun) -> dict[str, Any]:
    """Line fields of a solver of two evaluations a step, but for the last."""
    return {
        "changes": lambda n: {"model.levels.steps": n // 2, "model.solver": solver} if n > 1 else None,
        "evaluations": lambda n: n - 1,
    }


LINES = {
    "DDPM, DDIM": Line("ddpm_digits", lambda n: {"model.sampler": DDIM(n, spacing="trailing")}),
    "DDPM, DPM-Solver++ 2M": Line(
        "ddpm_digits",
        lambda n: second_order({"model.sampler": Solve(DPMSolver(2), Spaced(steps=n, spacing="trailing"))}, n),
    ),
    "EDM, Heun": Line("edm_digits", **heun(Heun())),
    "EDM, DPM-Solver++ 2M": Line("edm_digits", lambda n: second_order({"model.levels.steps": n}, n)),
    "flow, Euler": Line("flow_digits", lambda n: {"model.levels.steps": n}),
    "flow, Heun": Line("flow_digits", **heun(Heun(path=RectifiedFlow()))),
    "v, DDIM": Line("v_digits", lambda n: {"model.levels.schedule.steps": n}),
    "distilled from v": Line("progressive_digits", lambda n: {} if n == 1 else None),
    "consistency": Line("consistency_digits", listed),
    "sCM": Line("scm_digits", listed),
    "MeanFlow (a DiT)": Line("meanflow_digits", lambda n: {"model.steps": n}),
}


def trained(recipe: str, seed: int, workdir: pathlib.Path) -> ig.Run:
    """The recipe's run of that seed, after its teacher's where it has one."""
    experiment = importlib.import_module(f"experiments.{recipe}").experiment
    steps = STEPS.get(recipe, experiment.steps)
    name = f"{recipe}_{seed}"
    quick: dict[str, Any] = {"name": name, "seed": seed, "steps": steps}
    quick |= {"sample_every": steps, "checkpoint_every": steps}
    if recipe in TEACHER:
        quick["pretrained"] = {"network": str(trained(TEACHER[recipe], seed, workdir).workdir)}
    return ig.fit(ig.override(experiment, quick), workdir / name, quiet=True)


def scores(run: ig.Run, changes: dict[str, Any], samples: int) -> dict[str, float]:
    """The scores of samples drawn as `changes` say."""
    source = Digits(split="train")
    drawn = SampleSet(dataclasses.replace(run, experiment=ig.override(run.experiment, changes)), samples)
    cards = evaluate(drawn, source_set(source), trained_classifier(source), list(SCORES), quiet=True)
    return {card.metric: float(card.value) for card in cards if card.metric in SCORES.values()}


def interval(values: list[float], score: str) -> list[float]:
    """Mean, and the ends of Student's 95 % interval, cut where the score can have no value; of one value, it alone."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return [mean]
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    _, low, high = printed(list(SCORES), "FD-classifier")[score]
    return [mean, max(mean - half, low), min(mean + half, high)]


def measure(line: Line, runs: list[ig.Run], samples: int) -> list[dict[str, Any]]:
    """A point for each budget: evaluations, and by name each score's mean over the runs with its interval."""
    points = []
    for budget in BUDGETS:
        if (changes := line.changes(budget)) is not None:
            found = [scores(run, changes, samples) for run in runs]
            means = {name: interval([of[name] for of in found], name) for name in SCORES.values()}
            points.append({"budget": budget, "evaluations": line.evaluations(budget), **means})
    return points


def draw(lines: dict[str, Any]) -> None:
    """The three scores against evaluations."""
    figure, panels = plt.subplots(1, 3, figsize=(16, 4.2))
    scales = {"FD-classifier": "log", "coverage": "linear", "agreement": "linear"}
    for axes, (score, scale) in zip(panels, scales.items(), strict=True):
        axes.set_prop_cycle(color=plt.get_cmap("tab20").colors)
        for name in (name for name in LINES if name in lines):
            points = lines[name]["points"]
            at = [point["evaluations"] for point in points]
            mean, *ends = zip(*(point[score] for point in points), strict=True)
            (drawn,) = axes.plot(at, mean, marker="o", markersize=3, label=name)
            if ends:
                axes.fill_between(at, np.maximum(ends[0], 1e-3), ends[1], alpha=0.15, color=drawn.get_color())
        axes.set(xlabel="evaluations of the network", ylabel=score, xscale="log", yscale=scale)
        axes.set_xticks(BUDGETS, [str(n) for n in BUDGETS])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=6, bbox_to_anchor=(0.5, -0.12))
    figure.savefig(RESULTS / "few_evaluations.png", dpi=120, bbox_inches="tight")


def table(lines: dict[str, Any]) -> str:
    """FD-classifier, and agreement in percent, by line and budget; the best of a budget in bold."""
    rows = ["| FD-classifier (agreement) | " + " | ".join(map(str, BUDGETS)) + " |", "|---" * (1 + len(BUDGETS)) + "|"]
    by_budget = {name: {p["budget"]: p for p in lines[name]["points"]} for name in LINES if name in lines}
    best = {n: min(of[n]["FD-classifier"][0] for of in by_budget.values() if n in of) for n in BUDGETS}
    for name, points in by_budget.items():
        cells = []
        for n in BUDGETS:
            if n not in points:
                cells.append("")
                continue
            distance, agreement = points[n]["FD-classifier"][0], points[n]["agreement"][0]
            mark = "**" if distance == best[n] else ""
            cells.append(f"{mark}{distance:.2f}{mark} ({100 * agreement:.0f} %)")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    """Trains, scores, writes and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", choices=sorted({line.recipe for line in LINES.values()}))
    parser.add_argument("--seeds", type=int, default=3, help="runs of each recipe (default: 3)")
    parser.add_argument("--samples", type=int, default=1_000, help="of each run and budget (default: 1,000)")
    parser.add_argument(
        "--workdir", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of the runs' folders"
    )
    options = parser.parse_args()
    path = RESULTS / "few_evaluations.json"
    lines: dict[str, Any] = json.loads(path.read_text())["lines"] if path.exists() else {}
    for recipe in options.recipes:
        runs = [trained(recipe, seed, options.workdir) for seed in range(options.seeds)]
        training = {
            "recipe": recipe,
            "steps": runs[0].step,
            "minutes": [round(seconds_of(run.workdir, run.experiment.batch_size) / 60, 1) for run in runs],
        }
        for name, line in LINES.items():
            if line.recipe == recipe:
                lines[name] = training | {"points": measure(line, runs, options.samples)}
                print(name, json.dumps(lines[name]), flush=True)
        write_result("few_evaluations", {"samples": options.samples, "lines": lines})
        draw(lines)
    print(table(lines))


if __name__ == "__main__":
    main()
