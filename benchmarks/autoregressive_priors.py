"""Priors over codes here and in PyTorch: a training step, and codes drawn one after another with a cache.

    git clone https://github.com/FoundationVision/LlamaGen ../LlamaGen
    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0
    python benchmarks/autoregressive_priors.py --torch-python .venv-torch/bin/python --llamagen ../LlamaGen

The network is LlamaGen-B's with 6 of its 12 blocks, 16,384 codes, and dropout of 0.1 in training; PyTorch's is the
authors' class. A step is the loss of 256 codes of each of 16 images, its gradient, clipping by norm and AdamW (fused in
PyTorch). Sampling draws 256 codes for 16 images, without guidance: here by one compiled program, there by the authors'
loop, whose steps are not compiled. Beside that, here alone: 64, 256 and 1,024 codes for 4 images, to see how the cost
grows. Networks have as many parameters on both sides, which is checked.

The sides take turns, each in a process of its own with two threads and memory in pages of 2 MiB, that only the one at
work wakes up. Medians over all rounds, and milliseconds a code, which are the same where the cost is linear.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
from typing import Any

from kept import Kept, settings_of
from sides import Side, respond, same_allocator, same_parameters, take_turns

GRIDS = {64: 8, 256: 16, 1024: 32}  # codes of an image -> its rows and columns
VOCABULARY, CLASSES = 16_384, 1000
# What is timed, of how many codes for how many images.
BOTH = ("step 256 16", "sample 256 16")
LENGTHS = ("sample 64 4", "sample 256 4", "sample 1024 4")
FOLDER = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a side is told when it is started."""

    depth: int = 6
    threads: int = 2
    llamagen: str = ""  # the folder of the authors' code


def serve(setup: Setup) -> None:
    """Times what is asked for on this project's side."""
    import jax
    import jax.numpy as jnp
    from steps import training_step

    from imagegen_jax.autoregressive.prior import CodePrior
    from imagegen_jax.core import compile as compiling
    from imagegen_jax.core.config.frozen_map import FrozenMap
    from imagegen_jax.core.optim import AdamW
    from imagegen_jax.core.step import StepSpec
    from imagegen_jax.nn.backbones.transformers.gpt import llamagen

    class Levels:
        """A tokenizer of images that are codes already."""

        codebook_size = VOCABULARY

        def __init__(self, side: int) -> None:
            self.image_shape, self.code_shape = (side, side, 1), (side, side)

        def init_tokenizer(self, key: Any) -> Any:
            return {"params": {}}

        def encode(self, nets: Any, image: Any) -> Any:
            return image[..., 0].astype(jnp.int32)

        def decode(self, nets: Any, codes: Any) -> Any:
            return codes[..., None].astype(jnp.float32)

    network = llamagen("B", dtype="float32").clone(depth=setup.depth)

    def made(codes: int, n: int) -> tuple[Any, dict[str, Any]]:
        """The model, and a batch."""
        side = GRIDS[codes]
        image = jax.random.randint(jax.random.key(1), (n, side, side, 1), 0, VOCABULARY)
        model = CodePrior(Levels(side), network, CLASSES, label_dropout=0.1)
        return model, {"image": image.astype(jnp.float32), "label": jnp.arange(n)}

    def ready(case: str) -> Any:
        what, codes, n = case.split()
        model, batch = made(int(codes), int(n))
        if what == "step":
            optim = AdamW(1e-4, b2=0.95, weight_decay=0.05, decay_vectors=False)
            spec = StepSpec(model, FrozenMap({"prior": optim}), FrozenMap(), clip_norm=1.0)
            return training_step(spec, ("prior",), batch, compiling.compiler_options())
        nets, told = jax.jit(model.init)(jax.random.key(0), batch), {"label": batch["label"]}
        draw = compiling.jit(lambda nets, key: model.sample_codes(nets, key, int(n), told))
        return lambda: jax.block_until_ready(draw(nets, jax.random.key(2)))

    model, batch = made(256, 1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["prior"]))
    respond({"parameters": count, "jax": jax.__version__}, ready)


def main() -> None:
    """Starts both sides, lets them take turns, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--llamagen", required=True, help="the folder of the authors' code")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--depth", type=int, default=6)
    options = parser.parse_args()
    from machine import write_result  # here: it takes jax, which the side of PyTorch does without

    kept = Kept("autoregressive_priors", settings_of(options))
    setup = Setup(options.depth, llamagen=options.llamagen)
    same_allocator()
    told = json.dumps(dataclasses.asdict(setup))
    here = [sys.executable, str(FOLDER / "autoregressive_priors.py"), "--serve", told]
    there = [options.torch_python, str(FOLDER / "autoregressive_priors_torch.py"), told]
    sides = {"here": Side(here), "torch": Side(there)}
    count = same_parameters(sides)
    cases = {case: tuple(sides) for case in BOTH} | {case: ("here",) for case in LENGTHS}
    seconds = take_turns(sides, cases, options.rounds, 1, kept)
    for side in sides.values():
        side.close()
    medians = {c: {s: round(statistics.median(t), 3) for s, t in of.items()} for c, of in seconds.items()}
    result: dict[str, Any] = {"setup": dataclasses.asdict(setup) | {"llamagen": "ce98ec4"}, "parameters": count}
    result |= {"rounds": options.rounds, "seconds": medians}
    result["times_of_torch"] = {case: round(medians[case]["here"] / medians[case]["torch"], 2) for case in BOTH}
    result["milliseconds_a_code"] = {
        case: round(1000 * medians[case]["here"] / int(case.split()[1]), 2) for case in LENGTHS
    }
    write_result("autoregressive_priors", result | {side: one.about for side, one in sides.items()})
    kept.done()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Setup(**json.loads(sys.argv[2])))
    else:
        main()
