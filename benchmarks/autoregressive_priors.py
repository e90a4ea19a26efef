"""Priors over codes here and in PyTorch: a training step, and codes drawn one after another with a cache.

    git clone https://github.com/FoundationVision/LlamaGen ../LlamaGen
    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0
    python benchmarks/autoregressive_priors.py --torch-python .venv-torch/bin/python --llamagen ../LlamaGen

The network is LlamaGen-B's with 6 of its 12 blocks, 16,384 codes, and dropout of 0.1 in training; PyTorch's is the
authors' class. A step is the loss of 256 codes of each of 16 images, its gradient, clipping by norm and AdamW (fused in
PyTorch). Sampling draws 64, 256 and 1,024 codes for 16 images, without guidance: here by one compiled program, there by
the authors' loop, whose steps are not compiled. Networks have as many parameters on both sides, which is checked.

The sides take turns, each in a process of its own with two threads and memory in pages of 2 MiB, that only the one at
work wakes up. Medians over all rounds, and the time of 1,024 codes over that of 256, which is 4 where it is linear.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
from typing import Any

from sides import Side, respond, same_allocator, same_parameters, take_turns

GRIDS = {64: 8, 256: 16, 1024: 32}  # codes of an image -> its rows and columns
VOCABULARY, CLASSES = 16_384, 1000
FOLDER = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a side is told when it is started."""

    depth: int = 6
    batch: int = 16
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
    from imagegen_jax.nn.backbones.gpt import llamagen

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

    def made(codes: int) -> tuple[Any, dict[str, Any]]:
        """The model, and a batch."""
        side = GRIDS[codes]
        image = jax.random.randint(jax.random.key(1), (setup.batch, side, side, 1), 0, VOCABULARY)
        model = CodePrior(Levels(side), network, CLASSES, label_dropout=0.1)
        return model, {"image": image.astype(jnp.float32), "label": jnp.arange(setup.batch)}

    def ready(case: str) -> Any:
        what, codes = case.split()
        model, batch = made(int(codes))
        if what == "step":
            optim = AdamW(1e-4, b2=0.95, weight_decay=0.05, decay_vectors=False)
            spec = StepSpec(model, FrozenMap({"prior": optim}), FrozenMap(), clip_norm=1.0)
            return training_step(spec, ("prior",), batch, compiling.compiler_options())
        nets, told = jax.jit(model.init)(jax.random.key(0), batch), {"label": batch["label"]}
        draw = compiling.jit(lambda nets, key: model.sample_codes(nets, key, setup.batch, told))
        return lambda: jax.block_until_ready(draw(nets, jax.random.key(2)))

    model, batch = made(256)
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
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--codes", type=int, nargs="+", default=list(GRIDS), choices=list(GRIDS))
    options = parser.parse_args()
    from machine import write_result  # here: it takes jax, which the side of PyTorch does without

    setup = Setup(options.depth, options.batch, llamagen=options.llamagen)
    same_allocator()
    told = json.dumps(dataclasses.asdict(setup))
    here = [sys.executable, str(FOLDER / "autoregressive_priors.py"), "--serve", told]
    there = [options.torch_python, str(FOLDER / "autoregressive_priors_torch.py"), told]
    sides = {"here": Side(here), "torch": Side(there)}
    count = same_parameters(sides)
    cases = {"step 256": tuple(sides), **{f"sample {n}": tuple(sides) for n in options.codes}}
    seconds = take_turns(sides, cases, options.rounds, 1)
    for side in sides.values():
        side.close()
    medians = {c: {s: round(statistics.median(t), 3) for s, t in of.items()} for c, of in seconds.items()}
    result: dict[str, Any] = {"setup": dataclasses.asdict(setup) | {"llamagen": "ce98ec4"}, "parameters": count}
    result |= {"rounds": options.rounds, "seconds": medians}
    result["times_of_torch"] = {case: round(of["here"] / of["torch"], 2) for case, of in medians.items()}
    if {256, 1024} <= set(options.codes):
        pair = medians["sample 1024"], medians["sample 256"]
        result["1024_over_256"] = {side: round(pair[0][side] / pair[1][side], 2) for side in sides}
    write_result("autoregressive_priors", result | {side: one.about for side, one in sides.items()})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Setup(**json.loads(sys.argv[2])))
    else:
        main()
