"""Autoregressive models here and in PyTorch: training steps on the same threads.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    git clone https://github.com/pclucas14/pixel-cnn-pp ../pixel-cnn-pp
    python benchmarks/autoregressive.py --torch-python .venv-torch/bin/python --port ../pixel-cnn-pp
    python benchmarks/autoregressive.py --parts pixelcnnpp --rounds 3 ...    the results of others stay

The parts:

    pixelcnnpp    a training step of PixelCNN++ with 5 blocks of 80 filters at each resolution, on images of 32x32x3 at
                  batch 16, beside a port of the authors' code to PyTorch

A step is the loss in bits per dimension with dropout, the gradient, Adam and a moving average of the weights. Networks
have as many parameters on both sides, which is checked. The sides take turns, each in a process of its own that only
the one at work wakes up: this project's with the compiler options that the core uses, without them ("plain"), and
PyTorch's, whose Adam is fused. Each has two threads and memory in pages of 2 MiB (GLIBC_TUNABLES). Medians over all
rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from diffusion import table
from kept import RESULTS, Kept, settings_of
from sides import Side, platform_of, same_allocator, same_parameters, take_turns

FOLDER = pathlib.Path(__file__).resolve().parent
SIDES = ("here", "plain", "torch")


class Part(NamedTuple):
    """What a part of this benchmark times."""

    network: Mapping[str, Any]
    tiny: Mapping[str, Any]
    batch: int


BENCHMARKS = {"pixelcnnpp": Part({"blocks": 5, "width": 80}, {"blocks": 1, "width": 4}, 16)}


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a side is told when it is started."""

    part: str
    network: Mapping[str, Any]  # fields of this project's network
    batch: int
    threads: int
    options: bool  # whether to compile with those of the core
    port: str  # the folder of the port to PyTorch


def commands(part: str, options: argparse.Namespace) -> dict[str, list[str]]:
    """What starts each side of a part."""
    of, found = BENCHMARKS[part], {}
    network, batch = (of.tiny, 2) if options.tiny else (of.network, options.batch or of.batch)
    for name in SIDES:
        setup = Setup(part, network, batch, options.threads, name != "plain", options.port)
        python = options.torch_python if name == "torch" else sys.executable
        file = "autoregressive_torch.py" if name == "torch" else "autoregressive_here.py"
        found[name] = [python, str(FOLDER / file), json.dumps(dataclasses.asdict(setup))]
    return found


def compared(part: str, options: argparse.Namespace, kept: Kept) -> dict[str, Any]:
    """Medians of a part, and their ratios to PyTorch's."""
    sides = {name: Side(command) for name, command in commands(part, options).items()}
    parameters = same_parameters(sides)
    seconds = take_turns(sides, {"step": SIDES}, options.rounds, options.steps, kept, part)
    for side in sides.values():
        side.close()
    return {
        **{name: value for name, value in BENCHMARKS[part]._asdict().items() if name != "tiny"},
        "threads": options.threads,
        "parameters": parameters,
        "times_each": options.rounds * options.steps,
        **table(seconds),
        "sides": {name: side.about for name, side in sides.items()},
    }


def main() -> None:
    """Compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=tuple(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--torch-python", required=True, help="an interpreter that has torch")
    parser.add_argument("--port", required=True, help="the folder of the port of PixelCNN++ to PyTorch")
    parser.add_argument("--batch", type=int, help="other than a part's own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=2, help="steps in a turn")
    parser.add_argument("--tiny", action="store_true", help="does all with toy networks, and stores nothing")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = platform_of("cpu")
    same_allocator()
    kept = Kept("autoregressive_cpu_tiny" if options.tiny else "autoregressive_cpu", settings_of(options))
    found = {part: compared(part, options, kept) for part in options.parts}
    if options.tiny:
        print(json.dumps(found, indent=1))
        kept.done()
        return
    from machine import write_result

    stored = RESULTS / "autoregressive_cpu.json"
    write_result(stored.stem, (json.loads(stored.read_text()) if stored.exists() else {}) | found)
    kept.done()


if __name__ == "__main__":
    main()
