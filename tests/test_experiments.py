"""Six properties of every recipe in experiments/, which are discovered, never listed; each is run with its `smoke`.

Resumption in a fresh process and several devices are tested of one recipe for each model and network, and the fast
tests have one recipe a family. The steps of all other recipes are compiled without LLVM's optimisation, which saves
more time than it costs with tiny batches.
"""

import dataclasses
import importlib
import json
import math
import pathlib
import shutil
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.draw import class_rows, completed, label_conditions
from imagegen_jax.core.experiment import rows_of_model
from imagegen_jax.core.image import images_to_float
from imagegen_jax.core.model import Generative
from imagegen_jax.core.program import abstract_state
from imagegen_jax.core.shard import MeshShape
from imagegen_jax.core.step import due_at, stage_at
from imagegen_jax.core.summary import parameter_summary

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("[a-z]*.py"))
FAST = ("dcgan_mnist", "vae_mnist", "ddpm_digits", "edm_digits")
MODELS = {name: importlib.import_module(f"experiments.{name}").experiment.model for name in NAMES}
DRAWING = [name for name, model in MODELS.items() if isinstance(model, Generative)]


def kind(name):
    return type(MODELS[name]), type(getattr(MODELS[name], "network", None))


FIRST = {kind(name): name for name in (*reversed(NAMES), *FAST)}
HASTY = compiling.compiler_options() | {"xla_backend_optimization_level": 0}
PUBLISHED = json.loads((ROOT / "tests" / "reference" / "published_counts.json").read_text())


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in NAMES]
)
def recipe(request):
    """One recipe after the other, each with the programs that it compiled forgotten at its end."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param not in FIRST.values():
            patch.setattr(compiling, "compiler_options", lambda: HASTY)
        yield request.param
    compiling.forget()


def smoke(recipe, **changes):
    module = importlib.import_module(f"experiments.{recipe}")
    small = ig.override(module.experiment, module.smoke)
    return dataclasses.replace(
        small, mesh=MeshShape(data=1), checkpoint_every=2, keep_checkpoints=99, log_every=2, **changes
    )


def steps_needed(experiment):
    """Until every (stage, due) has occurred, and three more."""
    phases = experiment.model.phases(stage_at(experiment.model, 0))
    return math.lcm(*(phase.every for phase in phases)) + 3


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """The smoke run to its end, and how many steps it compiled."""
    experiment = smoke(recipe, steps=steps_needed(smoke(recipe)), seed=11)
    before = compiling.compilations()
    return ig.fit(experiment, tmp_path_factory.mktemp("runs") / recipe, quiet=True), compiling.compilations() - before


def advanced(experiment, steps):
    program = ig.Program(experiment)
    state = program.init()
    for step in range(steps):
        state, _ = program.advance(state, step, program.batch(step))
    return jax.device_get(state)


def test_losses_are_finite_and_what_is_trained_moves(finished):
    run, _ = finished
    lines = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [value for line in lines for metric, value in line.items() if metric.endswith("/loss")]
    assert losses and all(np.isfinite(losses))
    before = jax.device_get(ig.Program(run.experiment).init()).params
    for network, params in jax.device_get(run.state.params).items():
        for (path, old), new in zip(jax.tree.leaves_with_path(before[network]), jax.tree.leaves(params), strict=True):
            name = jax.tree_util.keystr(path)
            if name.endswith("['key']['bias']"):
                continue  # adds the same to all logits of a query, of which softmax sees nothing
            moved = not np.array_equal(old, new)
            assert moved == (network in run.experiment.optim), f"{network}{name}"


@pytest.mark.slow
@pytest.mark.of(FIRST.values())
def test_stopped_and_resumed_in_a_fresh_process_equals_uninterrupted(finished, tmp_path):
    run, _ = finished
    stopped = tmp_path / "stopped"
    shutil.copytree(run.workdir, stopped)
    for checkpoint in (stopped / "checkpoints").iterdir():
        if checkpoint.name != "2":  # as a run that was killed after its second step leaves it
            shutil.rmtree(checkpoint)
    program = textwrap.dedent("""
        import pathlib, sys
        from imagegen_jax import fit
        from imagegen_jax.core.folder import load_experiment
        folder = pathlib.Path(sys.argv[1])
        fit(load_experiment(folder), folder)
    """)
    done = subprocess.run([sys.executable, "-c", program, str(stopped)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "resumed at step 2" in done.stderr, done.stderr
    resumed = ig.load(stopped)
    assert resumed.experiment == run.experiment
    pairs = zip(jax.tree.leaves_with_path(resumed.state), jax.tree.leaves(run.state), strict=True)
    for (path, a), b in pairs:
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), jax.tree_util.keystr(path)


@pytest.mark.slow
@pytest.mark.of(FIRST.values())
def test_one_device_equals_eight(recipe):
    one = advanced(smoke(recipe), 4)
    many = advanced(dataclasses.replace(smoke(recipe), mesh=MeshShape(4, 2)), 4)
    for (path, a), b in zip(jax.tree.leaves_with_path(one.params), jax.tree.leaves(many.params), strict=True):
        assert np.abs(a - b).max() < 2e-7 * max(1, np.abs(a).max()), jax.tree_util.keystr(path)


def test_a_step_is_compiled_once_for_each_stage_and_due(finished):
    run, compiled = finished
    model = run.experiment.model
    stages = [stage_at(model, step) for step in range(run.experiment.steps)]
    assert compiled <= len({(stage, due_at(model.phases(stage), step)) for step, stage in enumerate(stages)})


@pytest.mark.slow
@pytest.mark.of(DRAWING)
def test_samples_are_images_and_follow_their_key(finished):
    run, _ = finished
    labels, _ = class_rows(run.experiment.num_classes, 10)
    images = run.sample(10, labels)
    assert images.shape == (10, *run.experiment.model.image_shape) and images.dtype == np.uint8
    np.testing.assert_array_equal(images, run.sample(10, labels))
    assert not np.array_equal(images, run.sample(10, labels, seed=1))
    given = label_conditions(None if labels is None else labels[:2])
    given = completed(given, run.experiment.model, run.experiment.data.open, 2, seed=0)
    raw = run.experiment.model.sample(run.nets, jax.random.key(0), 2, images_to_float(given))
    assert raw.dtype == np.float32 and float(abs(raw).max()) <= 1.0


def test_full_size_parameter_counts_are_the_published_ones(recipe):
    experiment = importlib.import_module(f"experiments.{recipe}").experiment
    state = abstract_state(experiment, rows_of_model(experiment), MeshShape(data=1).build(), 0)
    counts = {network: found["count"] for network, found in parameter_summary(state).items()}
    assert all(count > 0 for count in counts.values())
    for network, published in PUBLISHED.get(recipe, {}).items():
        assert counts[network] == published
