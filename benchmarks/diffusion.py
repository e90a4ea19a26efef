"""Diffusion models here and in PyTorch: training steps, sampling, the time to a first image, memory, convolutions.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1
    python benchmarks/diffusion.py --torch-python .venv-torch/bin/python
    python benchmarks/diffusion.py --parts unet ddim --rounds 3 --torch-python ...    the results of others stay

The parts:

    unet          a training step of DDPM's CIFAR-10 U-Net at batch 16, beside `UNet2DModel` of diffusers
    dit           a training step of DiT-S/2 on latents of 32x32x4 at batch 32, beside the same in plain PyTorch: the
                  `DiTTransformer2DModel` of diffusers has an embedding of time and class in each block
    ddim          50 steps of DDIM for 8 images with that U-Net: the whole run as one compiled call, a call for each
                  step from Python, and `DDIMPipeline` of diffusers
    first_image   from the start of a process to one image on the host, by weights that lie in a file for both sides,
                  with an empty compilation cache and a full one
    remat         a training step of DiT-B/2 at batch 4 with activations kept and computed again, and its memory at 32
    convolutions  every convolution of that U-Net by itself, its gradients too, as often as a step at batch 16 has it

A step is the draw of noise, times and dropped labels, the loss of the noise with dropout where the recipe has it, the
gradient, clipping by norm, Adam and a moving average of the weights. Networks have as many parameters on all sides,
which is checked. Each turn is printed and stored as it is done, and the same command goes on after an interruption. The
sides take turns, each in a process of its own that only the one at work wakes up: this project's
with the compiler options that the core uses, without them ("plain", on a CPU), and PyTorch's, whose Adam is fused. On a
CPU each has two threads and memory in pages of 2 MiB (GLIBC_TUNABLES); `unet` also says what pages of 4 KiB cost.
Medians over all rounds; a run of `ddim` is timed once a turn, and so is a first image.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kept import RESULTS, Kept, settings_of
from sides import PARTS, SMALL_PAGES, Side, described, platform_of, same_allocator, same_parameters, take_turns

UNET = {"width": 128, "multipliers": (1, 2, 2, 2), "blocks": 2}
DIT_S = {"depth": 12, "width": 384, "heads": 6}
DIT_B = {"depth": 12, "width": 768, "heads": 12}
TINY = {"width": 32, "multipliers": (1, 2), "blocks": 1}, {"depth": 2, "width": 48, "heads": 3}
ALL, HERE = ("here", "plain", "torch"), ("here",)
SMALL = ", small pages"  # what the names of sides with such memory end with
FOLDER = pathlib.Path(__file__).resolve().parent


class Part(NamedTuple):
    """What a part of this benchmark times."""

    network: Mapping[str, Any]
    batch: int
    cases: Mapping[str, Sequence[str]]  # and on which sides
    once: bool = False  # a turn


BENCHMARKS = {
    "unet": Part(UNET, 16, {"step": (*ALL, f"here{SMALL}", f"torch{SMALL}")}),
    "dit": Part(DIT_S, 32, {"step": ALL}),
    "ddim": Part(UNET, 8, {"run": ALL, "run step by step": HERE}, once=True),
    "first_image": Part(UNET, 1, {}),
    "remat": Part(DIT_B, 4, {"kept": HERE, "computed again": HERE}),
    "convolutions": Part(UNET, 16, {}),  # the network says which
}


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a side is told when it is started."""

    part: str
    network: Mapping[str, Any]  # fields of this project's `UNet` or `DiT`
    batch: int
    evaluations: int  # of the network for an image
    threads: int  # on a CPU
    device: str
    dtype: str
    options: bool  # whether to compile with those of the core
    weights: str = ""  # of a first image: the folder that they are read from, and written to where it is not there

    @property
    def is_dit(self) -> bool:
        """Whether the network is a DiT."""
        return self.part in ("dit", "remat")


def setup_of(part: str, options: argparse.Namespace, compiler_options: bool) -> Setup:
    """What the command line asks for."""
    of = BENCHMARKS[part]
    network = TINY["heads" in of.network] if options.tiny else of.network
    batch, evaluations = (2, 3) if options.tiny else (options.batch or of.batch, 50)
    shared = (options.threads, options.device, options.dtype)
    return Setup(part, network, batch, evaluations, *shared, options=compiler_options)


def commands(part: str, options: argparse.Namespace, weights: str = "") -> dict[str, list[str]]:
    """What starts each side of a part; sides read weights from folders of their names in `weights`."""
    names = dict.fromkeys(name for names in BENCHMARKS[part].cases.values() for name in names) or ALL
    found = {}
    for name in names:
        if options.device != "cpu" and name not in ("here", "torch"):
            continue
        setup = setup_of(part, options, compiler_options=name != "plain")
        setup = json.dumps(dataclasses.asdict(setup) | {"weights": os.path.join(weights, name) if weights else ""})
        if name.startswith("torch"):
            found[name] = [options.torch_python, str(FOLDER / "diffusion_torch.py"), setup]
        else:
            found[name] = [sys.executable, str(FOLDER / "diffusion_here.py"), setup]
    return found


def compared(part: str, options: argparse.Namespace, kept: Kept) -> dict[str, Any]:
    """Medians of all cases of a part, and their ratios to PyTorch's."""
    of = BENCHMARKS[part]
    starts = commands(part, options).items()
    sides = {name: Side(command, SMALL_PAGES if name.endswith(SMALL) else None) for name, command in starts}
    parameters = same_parameters(sides)
    counts = [side.about.pop("convolutions", {}) for side in sides.values()][0]
    cases = of.cases or {json.dumps([kind, *json.loads(layer)]): ALL for layer in counts for kind in PARTS}
    cases = {case: [name for name in names if name in sides] for case, names in cases.items()}
    steps = 1 if of.once else options.steps
    seconds = take_turns(sides, cases, options.rounds, steps, kept, part)
    for side in sides.values():
        side.close()
    setup = setup_of(part, options, compiler_options=True)
    return {
        **{name: getattr(setup, name) for name in ("network", "batch", "threads", "dtype")},
        "parameters": parameters,
        "times_each": options.rounds * steps,
        **(shares(seconds, counts) if part == "convolutions" else table(seconds)),
        "sides": {name: side.about for name, side in sides.items()},
    }


def table(seconds: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Medians of all cases, their ratios to PyTorch's, and those of this project's cases to its first."""
    medians = {case: medians_of(by) for case, by in seconds.items()}
    first, *others = medians
    return {
        "seconds": medians,
        "fastest_seconds": {case: {name: min(s) for name, s in by.items()} for case, by in seconds.items()},
        "ratio_to_torch": {case: ratios(by) for case, by in medians.items() if "torch" in by},
        "ratio_between_cases": {f"{case} / {first}": medians[case]["here"] / medians[first]["here"] for case in others},
    }


def medians_of(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """By side."""
    return {name: statistics.median(times) for name, times in seconds.items()}


def ratios(medians: Mapping[str, float]) -> dict[str, float]:
    """Of the other sides to PyTorch's."""
    return {name: seconds / medians["torch"] for name, seconds in medians.items() if name != "torch"}


def shares(seconds: Mapping[str, Mapping[str, Sequence[float]]], counts: Mapping[str, int]) -> dict[str, Any]:
    """Seconds of all convolutions in a step, by kind of work and by layer, and where they are lost to PyTorch.

    The first layer has no input gradient in a step, so the layer of images is left out there.
    """
    total: dict[str, Any] = collections.defaultdict(collections.Counter)
    layers: dict[str, dict[str, Any]] = collections.defaultdict(dict)
    for case, of_sides in seconds.items():
        kind, *layer = json.loads(case)
        by = medians_of(of_sides)
        times = 0 if kind == "input gradient" and layer[1] == 3 else counts[json.dumps(layer)]
        layers[described(layer)][kind] = {"times": times, "seconds": by, "ratio_to_torch": ratios(by)}
        for name in by:
            total[kind][name] += times * by[name]
            total["all"][name] += times * by[name]
    lost = {
        f"{kind}: {layer}": found["times"] * (found["seconds"]["here"] - found["seconds"]["torch"])
        for layer, of in layers.items()
        for kind, found in of.items()
    }
    return {
        "seconds_a_step": total,
        "ratio_to_torch": {kind: ratios(by) for kind, by in total.items()},
        "layers": layers,
        "seconds_lost_a_step": dict(sorted(lost.items(), key=lambda item: -item[1])[:10]),
    }


def first_images(options: argparse.Namespace, kept: Kept) -> dict[str, Any]:
    """Seconds from the start of a process to all that it says it has done, medians over rounds."""
    found: dict[str, list[dict[str, float]]] = {"empty cache": [], "full cache": [], "torch": []}
    with tempfile.TemporaryDirectory() as folder:
        start = commands("first_image", options, folder)
        for name in ("here", "torch"):
            milestones(start[name], os.path.join(folder, "writing"))  # the weights
        for number in range(options.rounds):
            times = kept.part(f"first_image round {number + 1}", functools.partial(one_round, start))
            for case in found:
                found[case].append(times[case])
    medians = {case: medians_of({said: [times[said] for times in of] for said in of[0]}) for case, of in found.items()}
    images, processors = ({case: of[said] for case, of in medians.items()} for said in ("image", "processors"))
    return {
        "seconds_until": medians,
        "ratio_to_torch": ratios(images),
        "ratio_of_processors": ratios(processors),
        "times_each": options.rounds,
    }


def one_round(start: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
    """Seconds of each case, of this project's with a cache that is empty at first."""
    with tempfile.TemporaryDirectory() as cache:
        here = {case: milestones(start["here"], cache) for case in ("empty cache", "full cache")}
        return here | {"torch": milestones(start["torch"], cache)}


def milestones(command: list[str], cache: str) -> dict[str, float]:
    """Seconds from the start of a process to each line that it writes, and those of all processors until its end."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    start, before = time.perf_counter(), os.times()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment | {"IMAGEGEN_CACHE": cache}
    ) as process:
        assert process.stdout is not None
        found = {json.loads(line): time.perf_counter() - start for line in process.stdout}
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}; see above")
    after = os.times()
    return found | {"processors": sum(after[2:4]) - sum(before[2:4])}


def main() -> None:
    """Compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=tuple(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--torch-python", help="an interpreter that has torch and diffusers")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: float32 on a CPU, else bfloat16")
    parser.add_argument("--batch", type=int, help="other than a part's own")
    parser.add_argument("--threads", type=int, default=2, help="on a CPU")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side with each case")
    parser.add_argument("--steps", type=int, default=3, help="steps in a turn")
    parser.add_argument("--tiny", action="store_true", help="does all with toy networks, and stores nothing")
    options = parser.parse_args()
    if not options.torch_python and options.parts != ["remat"]:
        parser.error("--torch-python is needed: an interpreter that has torch and diffusers")
    options.dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    os.environ["JAX_PLATFORMS"] = platform_of(options.device)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the sides share a GPU
    same_allocator()
    name = f"diffusion_{options.device}"
    kept = Kept(f"{name}_tiny" if options.tiny else name, settings_of(options))
    found = {
        part: first_images(options, kept) if part == "first_image" else compared(part, options, kept)
        for part in options.parts
    }
    if options.tiny:
        print(json.dumps(found, indent=1))
        kept.done()
        return
    from machine import write_result

    stored = RESULTS / f"{name}.json"
    write_result(name, (json.loads(stored.read_text()) if stored.exists() else {}) | found)
    kept.done()


if __name__ == "__main__":
    main()
