"""Training steps of GANs here and in PyTorch: DCGAN-64, SNGAN-32 and StyleGAN2-64, with batches of 32.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0
    python benchmarks/gan.py --torch-python .venv-torch/bin/python

A step is the loss, the gradient and the Adam update of each phase that is due, on images that are given. DCGAN and
SNGAN have their published widths, with one step of the discriminator and one of the generator; StyleGAN2 has 2,048 /
side channels, at most 256, and is timed with each of its lazy phases as well. The networks have as many parameters on
all sides, which is checked. Then single convolutions, one for each model, show where the time goes.

The sides take turns, each in a process of its own that only the one at work wakes up: this project's step with the
compiler options that the core uses, without them ("plain", on a CPU), and PyTorch's, of which StyleGAN2 has two, with
scaled features and with "grouped" convolutions. Two threads each on a CPU, in float32, with memory in pages of 2 MiB
(GLIBC_TUNABLES); on a GPU both compute in bfloat16. Medians over all rounds. Each turn is printed and stored as it is
done; the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from typing import Any

from kept import Kept, settings_of
from sides import PARTS, Side, Step, described, platform_of, respond, same_allocator, same_parameters, take_turns

SIDES = ("here", "plain", "torch", "grouped")
STYLEGAN2 = {"channel_base": 2048, "channel_max": 256}
MODELS = {"dcgan_64": 64, "sngan_32": 32, "stylegan2_64": 64}  # the side of the images
BOTH, GAME = ("discriminator", "generator"), ("generator", "discriminator")
STEPS = {  # case -> the model and the phases that are due
    "dcgan_64": ("dcgan_64", BOTH),
    "sngan_32": ("sngan_32", BOTH),
    "stylegan2_64": ("stylegan2_64", GAME),
    "stylegan2_64 + path": ("stylegan2_64", ("generator", "path", "discriminator")),
    "stylegan2_64 + r1": ("stylegan2_64", (*GAME, "r1")),
}
LAYERS = {  # the side of the features, channels in and out, kernel and stride of one convolution of each model
    "dcgan_64": (32, 64, 128, 4, 2),
    "sngan_32": (32, 128, 128, 3, 1),
    "stylegan2_64": (64, 32, 32, 3, 1),
}
CONVOLUTIONS = {f"{model}: {part}": (part, layer) for model, layer in LAYERS.items() for part in PARTS}


class Here:
    """What this project takes its steps with."""

    def __init__(self, batch: int, threads: int, device: str, options: bool) -> None:
        os.environ["JAX_PLATFORMS"] = platform_of(device)
        if device == "cpu":
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # XLA has a thread for each that it sees
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        from imagegen_jax.core.compile import compiler_options
        from imagegen_jax.gan.dcgan import DCGAN
        from imagegen_jax.gan.residual.sngan import SNGAN
        from imagegen_jax.gan.style.stylegan2 import Discriminator, Generator, StyleGAN2

        networks = Generator(**STYLEGAN2), Discriminator(**STYLEGAN2)
        self.models = {"dcgan_64": DCGAN(), "sngan_32": SNGAN(), "stylegan2_64": StyleGAN2((64, 64, 3), *networks)}
        self.batch, self.options = batch, compiler_options() if options else {}

    def about(self) -> dict[str, Any]:
        """Versions, and how many parameters the networks have."""
        import jax

        def count(model: Any) -> dict[str, int]:
            nets = jax.eval_shape(model.init, jax.random.key(0), {"image": jax.numpy.zeros((1, *model.image_shape))})
            return {name: sum(p.size for p in jax.tree.leaves(nets[name]["params"])) for name in nets}

        versions = {"jax": jax.__version__, "python": platform.python_version(), "compiler_options": self.options}
        return versions | {"parameters": {name: count(model) for name, model in self.models.items()}}

    def step(self, model: str, side: int, due: tuple[str, ...]) -> Step:
        """A function that takes one training step of these phases, on images that are given."""
        import jax
        from steps import training_step

        from imagegen_jax.core.config.frozen_map import FrozenMap
        from imagegen_jax.core.optim import Adam
        from imagegen_jax.core.step import StepSpec

        adam = Adam(2e-4, b1=0.0, b2=0.99)
        spec = StepSpec(self.models[model], FrozenMap({"generator": adam, "discriminator": adam}), FrozenMap())
        images = {"image": jax.random.uniform(jax.random.key(0), (self.batch, side, side, 3), minval=-1.0)}
        return training_step(spec, due, images, self.options)

    def convolution(self, part: str, layer: tuple[int, ...]) -> Step:
        """A function that takes one convolution, or one of its gradients."""
        from steps import convolution

        from imagegen_jax.nn.precision import compute_dtype

        return convolution(part, layer, self.batch, compute_dtype("auto").name, self.options)


def serve(side: str, batch: int, threads: int, device: str) -> None:
    """Says what it is, then times a case as often as each line of the standard input asks for: "2 dcgan_64"."""
    if side in ("here", "plain"):
        taker: Any = Here(batch, threads, device, side == "here")
    else:
        from gan_torch import Torch

        taker = Torch(batch, threads, device, STYLEGAN2, side == "grouped")

    def ready(case: str) -> Step:
        if case not in STEPS:
            return taker.convolution(*CONVOLUTIONS[case])
        model, due = STEPS[case]
        return taker.step(model, MODELS[model], due)

    respond(taker.about(), ready)


def sides_of(case: str, names: list[str]) -> list[str]:
    """Grouped convolutions are StyleGAN2's alone."""
    return [name for name in names if name != "grouped" or case in STEPS and case.startswith("stylegan2")]


def compare(torch_python: str, options: argparse.Namespace, kept: Kept) -> dict[str, Any]:
    """Medians of all cases, their ratios to PyTorch's, and what the lazy phases add."""
    names = [name for name in SIDES if name != "plain" or options.device == "cpu"]
    settings = ["--batch", str(options.batch), "--threads", str(options.threads), "--device", options.device]
    pythons = {name: torch_python if name in ("torch", "grouped") else sys.executable for name in names}
    sides = {name: Side([pythons[name], __file__, "--side", name, *settings]) for name in names}
    parameters = same_parameters(sides)
    cases = [case for case in (*STEPS, *CONVOLUTIONS) if case.split()[0].rstrip(":") in options.models]
    turns = {case: sides_of(case, names) for case in cases}
    seconds = take_turns(sides, turns, options.rounds, options.steps, kept)
    for side in sides.values():
        side.close()
    medians = {case: {n: statistics.median(s) for n, s in of.items()} for case, of in seconds.items()}
    ratios = {case: {n: s / of["torch"] for n, s in of.items() if n != "torch"} for case, of in medians.items()}
    return {
        "batch": options.batch,
        "threads": options.threads,
        "stylegan2_channels": STYLEGAN2,
        "parameters": parameters,
        "seconds": medians,
        "fastest_seconds": {case: {n: min(s) for n, s in of.items()} for case, of in seconds.items()},
        "ratio_to_torch": ratios,
        "seconds_that_a_lazy_phase_adds": added(medians),
        "slower_than_torch": sorted(case for case, of in ratios.items() if of["here"] > 1),
        "times_each": options.rounds * options.steps,
        "layers": {model: described(LAYERS[model]) for model in options.models},
        "sides": {name: side.about for name, side in sides.items()},
    }


def added(medians: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """By case with a lazy phase and side, the seconds above the step without; other steps cost nothing for it."""
    plain = medians.get("stylegan2_64", {})
    lazy = {case: of for case, of in medians.items() if " + " in case}
    return {case: {name: of[name] - plain[name] for name in of} for case, of in lazy.items()}


def main() -> None:
    """Compares, or serves as one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="an interpreter that has torch")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=list(MODELS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2, help="on a CPU")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side with each case")
    parser.add_argument("--steps", type=int, default=2, help="steps in a turn")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.batch, options.threads, options.device)
        return
    if not options.torch_python:
        parser.error("--torch-python is needed: an interpreter that has torch")
    os.environ["JAX_PLATFORMS"] = platform_of(options.device)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the sides share a GPU
    same_allocator()
    from machine import write_result  # imports jax, which the side of torch does not have

    kept = Kept(f"gan_{options.device}", settings_of(options))
    write_result(f"gan_{options.device}", compare(options.torch_python, options, kept))
    kept.done()


if __name__ == "__main__":
    main()
