"""A training step of DDPM's CIFAR-10 U-Net here and in PyTorch: `UNet2DModel` of diffusers, google/ddpm-cifar10-32.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1
    python benchmarks/unet_vs_diffusers.py --torch-python .venv-torch/bin/python

A step is the loss of Eq. 14 with dropout, its gradient and an Adam update, on images, times and noise that are given.
The sides take turns, each in a process of its own that only the one at work wakes up: this project's network with the
compiler options that the core uses, without them, and PyTorch's. Two threads each, in float32; medians over all rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from sides import Side, tell

SIDES = ("options", "plain", "torch")


def jax_step(batch: int, threads: int, options: bool) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A function that takes one step of this project's network, and what it is."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # XLA has a thread for each processor it sees
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import jax
    import optax

    from imagegen_jax.core.compile import compiler_options
    from imagegen_jax.core.model import Inputs
    from imagegen_jax.diffusion.ddpm import DDPM

    model, adam = DDPM(), optax.adam(2e-4)
    key = jax.random.key(0)
    images = {"image": jax.random.normal(key, (batch, 32, 32, 3))}
    inputs = Inputs(images, key, jax.random.split(key, batch), 0, {})

    def step(nets: Any, opt: Any) -> tuple[Any, Any, Any]:
        (loss, _), gradient = jax.value_and_grad(model.loss, has_aux=True)(nets, inputs)
        update, opt = adam.update(gradient, opt, nets)
        return optax.apply_updates(nets, update), opt, loss

    nets = jax.jit(model.init)(key, images)
    state = [nets, adam.init(nets)]
    chosen = compiler_options() if options else {}
    compiled = jax.jit(step, donate_argnums=(0, 1), compiler_options=chosen).lower(*state).compile()

    def one() -> None:
        nets, opt, _ = jax.block_until_ready(compiled(*state))
        state[:] = nets, opt

    about = {"jax": jax.__version__, "python": platform.python_version(), "compiler_options": chosen}
    return one, about | {"parameters": sum(leaf.size for leaf in jax.tree.leaves(nets))}


def torch_step(batch: int, threads: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The same of diffusers' network."""
    import diffusers
    import torch

    torch.set_num_threads(threads)
    network = diffusers.UNet2DModel(
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        attention_head_dim=None,
        dropout=0.1,
    )
    adam = torch.optim.Adam(network.parameters(), lr=2e-4)
    schedule = diffusers.DDPMScheduler(num_train_timesteps=1000)
    images = torch.randn(batch, 3, 32, 32)

    def one() -> None:
        noise, t = torch.randn_like(images), torch.randint(0, 1000, (batch,))
        adam.zero_grad(set_to_none=True)
        predicted = network(schedule.add_noise(images, noise, t), t).sample
        torch.nn.functional.mse_loss(predicted, noise).backward()
        adam.step()

    about = {"torch": torch.__version__, "diffusers": diffusers.__version__, "python": platform.python_version()}
    return one, about | {"parameters": sum(p.numel() for p in network.parameters())}


def serve(side: str, batch: int, threads: int) -> None:
    """Says what it is, then times as many steps as each line of the standard input asks for."""
    step, about = torch_step(batch, threads) if side == "torch" else jax_step(batch, threads, side == "options")
    step()  # the first allocates
    tell(about)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        tell(seconds)


def compare(torch_python: str, batch: int, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """Seconds a step of each side and the ratios, from turns of `steps` steps."""
    pythons = {side: torch_python if side == "torch" else sys.executable for side in SIDES}
    turn = ["--batch", str(batch), "--threads", str(threads)]
    sides = {side: Side([python, __file__, "--side", side, *turn]) for side, python in pythons.items()}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for name, side in sides.items():
            seconds[name] += side.ask(steps)
    for side in sides.values():
        side.close()
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    return {
        "batch": batch,
        "threads": threads,
        "seconds_a_step": medians,
        "fastest_seconds_a_step": {side: min(values) for side, values in seconds.items()},
        "ratio_to_torch_with_options": medians["options"] / medians["torch"],
        "ratio_to_torch_without_options": medians["plain"] / medians["torch"],
        "steps_timed": rounds * steps,
        "sides": {name: side.about for name, side in sides.items()},
    }


def main() -> None:
    """Compares, or serves as one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="an interpreter that has torch and diffusers")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=3, help="steps in a turn")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.batch, options.threads)
        return
    if not options.torch_python:
        parser.error("--torch-python is needed: an interpreter that has torch and diffusers")
    os.environ["JAX_PLATFORMS"] = "cpu"
    from machine import write_result  # imports jax, which the side of torch does not have

    turns = (options.batch, options.threads, options.rounds, options.steps)
    write_result("unet_vs_diffusers", compare(options.torch_python, *turns))


if __name__ == "__main__":
    main()
