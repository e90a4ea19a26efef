"""What `scripts/on_accelerator` does: one part after the other, and a file of results that is whole after each."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from on_accelerator.parts import Outcome, Part, Settings, limit_of, run_part

NAME = "on_accelerator.json"
WITHOUT_LAZY = {"stylegan2_256": "generator + discriminator"}  # the phases that PyTorch takes of these networks
NETWORKS = ("ddpm_cifar10", "dit_xl2_imagenet256", "edm_cifar10", "stylegan2_256")
_STEP, _SHORT = "on_accelerator.training_steps:measure", "on_accelerator.short_training:measure"

PARTS = (  # with their least and most seconds; the last ones train for as long as there is time
    Part("device", "on_accelerator.device:measure", 10, 60),
    Part("attention", "on_accelerator.attention:measure", 25, 60),
    Part("step-ddpm_cifar10", _STEP, 40, 90, ("ddpm_cifar10",)),
    Part("step-dit_xl2_imagenet256", _STEP, 50, 120, ("dit_xl2_imagenet256",)),
    Part("step-edm_cifar10", _STEP, 35, 90, ("edm_cifar10",)),
    Part("step-stylegan2_256", _STEP, 40, 120, ("stylegan2_256",)),
    Part("torch", "on_accelerator.torch_side:measure", 45, 120),
    Part("loop", "on_accelerator.loop_cost:measure", 20, 45),
    Part("sampling", "on_accelerator.sampling:measure", 30, 90),
    Part("train-dcgan", _SHORT, 30, 75, ("dcgan",)),
    Part("train-edm", _SHORT, 45, 600, ("edm",)),
)

HELP = """\
Measures this project on the accelerators of this machine, and leaves OUT/{name} and two grids of samples.

    scripts/on_accelerator OUT                                 8 minutes on one H100, H200 or TPU host
    scripts/on_accelerator OUT --parts attention torch         these alone; what OUT has of others stays
    scripts/on_accelerator OUT --dry-run                       all of it with tiny networks on the CPU

The parts, in this order:

    device        versions, driver, devices, processor, memory
    attention     the fused attention in bfloat16 against the plain one in float32, forward and backward
    step-NAME     a training step of {networks}:
                  images a second, share of the device's peak (MFU), memory, beside what was predicted
    torch         the same networks in PyTorch with torch.compile, on one device, and without lazy phases
    loop          what the training loop costs over the bare step
    sampling      images a second of the samplers
    train-NAME    a DCGAN and an EDM on CIFAR-10, for the time that remains, and a grid of each

Each part is a process that is ended when its time is up, and says what it has found until then. One that fails, or is
ended, is noted with its last lines of stderr, and the next one begins. The exit code is 1 where one has failed.

Nothing is downloaded. What has to be there:
  - this project's requirements, with a jax for the accelerator: pip install -e '.[cuda]' or '.[tpu]' (for CUDA 13
    pip install -e . 'jax[cuda13]'). These wheels are some GB: minutes with a good network, so install before the
    minutes count. Where the machine has no network but a jax of its own, take along what else is missing: here
    `pip download --no-deps --only-binary=:all: --python-version 3.12 -d wheels NAME ...`, there
    `pip install --no-index --no-deps --target site wheels/*.whl` and PYTHONPATH=site.
  - for the part "torch", an interpreter with torch, and with diffusers for the U-Net: --torch PYTHON, by default the
    one that runs this where it has torch. Without one the part says so.
  - for the last parts CIFAR-10, prepared by TensorFlow Datasets, in the folder --data; otherwise they train on
    scikit-learn's digits. All other parts take random images.
"""


class Record:
    """The file of results, whole at any time."""

    def __init__(self, path: pathlib.Path, about: dict[str, Any]) -> None:
        """Goes on with the parts that are there already.

        Raises SystemExit where they are of a dry run and these are not, or the other way round.
        """
        self.path, self.found = path, {"run": about, "parts": {}}
        if path.exists():
            before = json.loads(path.read_text())
            self.found["parts"] = before["parts"]
            if before.get("run", about).get("dry_run") != about.get("dry_run"):
                kind = "of an accelerator" if about.get("dry_run") else "of a dry run"
                raise SystemExit(f"error: {path} has numbers {kind}: name another folder, or delete it")

    def begin(self, part: Part, limit: float) -> None:
        """Replaces what was known of a part."""
        self.found["parts"].pop(part.name, None)
        self.found["parts"][part.name] = {"status": "running", "limit_seconds": round(limit, 1), "found": {}}
        self.write()

    def add(self, part: Part, found: Any) -> None:
        """Adds what a part has found."""
        self.found["parts"][part.name]["found"].update(found)
        self.write()

    def end(self, part: Part, outcome: Outcome) -> None:
        """Says how a part ended."""
        noted = self.found["parts"][part.name]
        noted |= {"status": outcome.status, "seconds": round(outcome.seconds, 1)}
        if outcome.error:
            noted["last_lines"] = list(outcome.error)
        self.write()

    def of(self, name: str) -> dict[str, Any]:
        """What a part has found."""
        return self.found["parts"].get(name, {}).get("found", {})

    def status(self, name: str) -> str | None:
        """How a part ended; None where it has not begun."""
        return self.found["parts"].get(name, {}).get("status")

    def write(self) -> None:
        """Replaces the file."""
        partial = self.path.with_name(f".{self.path.name}.partial")
        partial.write_text(json.dumps(self.found, indent=1) + "\n")
        partial.replace(self.path)


def run(parts: Sequence[Part], settings: Settings, record: Record, minutes: float) -> None:
    """Runs parts within some minutes. Raises SystemExit where the first shows that there is no accelerator."""
    end = time.monotonic() + 60 * minutes
    for at, part in enumerate(parts):
        limit = limit_of(part, parts[at + 1 :], end - time.monotonic())
        record.begin(part, limit)
        outcome = run_part(part, settings, limit, lambda found, part=part: record.add(part, found))
        record.end(part, outcome)
        print(f"{part.name:26} {outcome.status} after {outcome.seconds:.1f} s of {limit:.0f}", flush=True)
        for line in outcome.error:
            print(f"    {line}", flush=True)
        if not settings.dry_run and (jax := record.of("device").get("jax")) and jax["platform"] == "cpu":
            raise SystemExit(
                f"error: jax {jax['version']} ({jax['file']}) sees no accelerator, only {jax['devices']}: install a "
                "jax for it (scripts/on_accelerator --help says how), or try the script with --dry-run"
            )


def compared(record: Record) -> dict[str, float]:
    """Images a second of one device here over PyTorch's, which has one, of networks that both have taken steps of."""
    found = {}
    for name, there in record.of("torch").items():
        steps = record.of(f"step-{name}")
        here = steps.get(WITHOUT_LAZY.get(name), steps).get("images_per_second")
        if here and isinstance(there, dict) and there.get("images_per_second"):
            found[name] = here / steps["devices"] / there["images_per_second"]
    return found


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    about = HELP.format(name=NAME, networks=", ".join(NETWORKS))
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (8)")
    parser.add_argument("--parts", nargs="+", metavar="PART", help='by name or its first word: "step", "train-edm"')
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that has PyTorch")
    parser.add_argument("--data", metavar="FOLDER", help="of TensorFlow Datasets, with cifar10")
    parser.add_argument("--dry-run", action="store_true", help="tiny networks on the CPU")
    options = parser.parse_args(arguments)
    if wrong := wrong_in(options):
        parser.error(wrong)
    wanted = options.parts or ["device", *(part.name for part in PARTS)]
    for name in wanted:
        if not any(name in (part.name, part.name.split("-")[0]) for part in PARTS):
            parser.error(f"--parts {name}: there is no such part; they are {', '.join(part.name for part in PARTS)}")
    names = {"device", *wanted}
    options.parts = [part for part in PARTS if names & {part.name, part.name.split("-")[0]}]
    return options


def wrong_in(options: argparse.Namespace) -> str | None:
    """What a part would fail by after minutes; None where all is there."""
    if options.out.exists() and not options.out.is_dir():
        return f"{options.out}: is a file, not a folder: name another"
    if options.torch and not shutil.which(options.torch):
        return f"--torch {options.torch}: there is no such program; give the path of a Python that has torch"
    if options.data and not pathlib.Path(options.data, "cifar10").is_dir():
        prepare = f"imagegen data prepare tfds:cifar10 --data-dir {options.data}"
        return f"--data {options.data}: has no cifar10; prepare it ({prepare}), or leave --data out for digits"
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, within the minutes that are given. Raises SystemExit, when all is written, where a part has failed."""
    options = options_of(sys.argv[1:] if arguments is None else arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.dry_run:
        os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # of all processes of parts
        options.parts = [part._replace(most=4 * part.most) for part in options.parts]  # whatever else the CPU does
    if not {"XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"} & set(os.environ):  # jax refuses both at once
        os.environ["XLA_CLIENT_MEM_FRACTION"] = "0.92"  # DiT-XL/2 in the 80 GB of an H100
    about = {
        "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "minutes": options.minutes,
        "dry_run": options.dry_run,
    }
    record = Record(options.out / NAME, about)
    settings = Settings(options.dry_run, str(options.out.absolute()), options.torch, options.data)
    run(options.parts, settings, record, options.minutes)
    if not options.dry_run:  # tiny networks are not the same on both sides
        record.found["times_as_fast_as_torch"] = compared(record)
    record.write()
    print(f"the results: {record.path}")
    if failed := [part.name for part in options.parts if record.status(part.name) == "failed"]:
        raise SystemExit(f"error: {', '.join(failed)} failed: their last lines are above, and in the results")
