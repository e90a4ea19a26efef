"""Properties of every recipe in experiments/, which are discovered, never listed; each is run with its `smoke`.

One recipe for each mechanism (`mechanisms`) is trained; the steps and the sampler of the others, which differ from
these in numbers, are traced. The fast tests have one recipe a family, which is compiled as for users.
"""

import dataclasses
import functools
import importlib
import json
import math
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from in_range import refuse_beyond
from mechanisms import FAST, NAMES, RECIPES, TRAINED, chosen, parts

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.shard import MeshShape, state_sharding
from imagegen_jax.core.arrays.space import sample_shape, space_of
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.drawing.draw import drawing, filled_from_data, label_conditions, rows_at
from imagegen_jax.core.drawing.finite import check_finite_images
from imagegen_jax.core.experiment import model_row_shapes
from imagegen_jax.core.model import Generative
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.program import abstract_state
from imagegen_jax.core.reporting.not_finite import NonFiniteError
from imagegen_jax.core.reporting.summary import parameter_summary
from imagegen_jax.core.samples import rows_of_grid
from imagegen_jax.core.state import State, networks
from imagegen_jax.core.step import due_at, due_steps, stage_at, train_step
from imagegen_jax.nn.objectives import Wasserstein

pytestmark = pytest.mark.versions


def kinds(name):
    """A recipe's model and network."""
    model = RECIPES[name].model
    return frozenset(type(part) for part in (model, getattr(model, "network", None)) if part is not None)


DRAWING = [name for name in TRAINED if isinstance(RECIPES[name].model, Generative)]
AS_USERS = ("dcgan_mnist", "vae_mnist", "edm_digits")
QUICK = [name for name in FAST if name not in AS_USERS]  # to compile
FIRST = chosen({name: kinds(name) for name in TRAINED}, QUICK)  # every model and every network
STORED = chosen(  # these, and every optimizer, average and augmentation
    {name: {part for part in parts(RECIPES[name]) if part[0] in ("optim", "averages", "augment")} for name in TRAINED},
    FIRST,
)
TRACED = [name for name in NAMES if name not in TRAINED]
STILL = {  # what nothing depends on, in the published networks either
    "stable_diffusion_3_medium": "['block_1']['text']['query']['bias']",  # of a text that nobody sees any more
    "ldm4_imagenet256": "['norm_1']['bias']",  # of queries that see one token alone, whatever they ask
}


def quick(name):
    return pytest.param(name, marks=() if name in AS_USERS else pytest.mark.slow)


def as_users_compile(name):
    return pytest.param(name, marks=pytest.mark.optimised if name in AS_USERS else pytest.mark.slow)


@pytest.fixture(scope="module", params=[as_users_compile(name) for name in TRAINED])
def recipe(request):
    """One recipe after the other, each with the programs that it compiled forgotten at its end."""
    yield request.param
    compiling.forget()


def smoke(recipe, **changes):
    return dataclasses.replace(
        RECIPES[recipe], mesh=MeshShape(data=1), checkpoint_every=2, keep_checkpoints=99, log_every=2, **changes
    )


def steps_needed(experiment):
    """Until every (stage, due) has occurred, and three more."""
    phases = experiment.model.phases(stage_at(experiment.model, 0))
    return math.lcm(*(phase.every for phase in phases)) + 3


def kinds_of_steps(model, steps):
    """The (stage, due) of the first steps."""
    stages = [stage_at(model, step) for step in range(steps)]
    return {(stage, due_at(model.phases(stage), step)) for step, stage in enumerate(stages)}


class Finished(NamedTuple):
    """A run, how many steps it compiled, the state that it began with, and the shapes of what its samplers draw."""

    run: ig.Run
    compiled: int
    begun: State
    drawn: list[tuple[int, ...]]


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """The smoke run to its end; its samplers refuse images beyond [-1, 1]."""
    experiment = smoke(recipe, steps=steps_needed(RECIPES[recipe]), seed=11)
    before, begun, make = compiling.compilations(), [], ig.Program.init

    def kept(program, pretrained=None):
        state = make(program, pretrained)
        begun.append(jax.tree.map(np.array, state))  # copies: the first step takes the state's memory
        return state

    with pytest.MonkeyPatch.context() as patch:
        drawn = refuse_beyond(patch)
        with pytest.MonkeyPatch.context() as begins:
            begins.setattr(ig.Program, "init", kept)
            run = ig.fit(experiment, tmp_path_factory.mktemp("runs") / recipe, quiet=True)
        yield Finished(run, compiling.compilations() - before, begun[0], drawn)


@pytest.fixture(scope="module")
def resuming(root):
    """Goes on with the run in a folder, in a process that has begun none; returns what it said."""
    command = [sys.executable, root / "tests" / "recipes" / "resuming.py"]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def go_on(folder):
            process.stdin.write(json.dumps([str(folder), jax.config.read("jax_disable_most_optimizations")]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield go_on
        process.stdin.close()


# --- one recipe for each mechanism -----------------------------------------------------------------------------------


def test_losses_are_finite_and_what_is_trained_moves(finished):
    run, begun = finished.run, finished.begun
    lines = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [value for line in lines for metric, value in line.items() if metric.endswith("/loss")]
    assert losses and all(np.isfinite(losses))
    for network, params in jax.device_get(run.state.params).items():
        for (path, old), new in zip(
            jax.tree.leaves_with_path(begun.params[network]), jax.tree.leaves(params), strict=True
        ):
            name = jax.tree_util.keystr(path)
            if name.endswith(("['key']['bias']", STILL.get(run.experiment.name, "['key']['bias']"))):
                continue  # a key's adds the same to all logits of a query, of which softmax sees nothing
            moved = not np.array_equal(old, new)
            assert moved == (network in run.experiment.optim), f"{network}{name}"


@pytest.mark.slow
@pytest.mark.of(STORED)
def test_stopped_and_resumed_in_a_fresh_process_equals_uninterrupted(finished, resuming, tmp_path):
    run = finished.run
    stopped = tmp_path / "stopped"
    shutil.copytree(run.workdir, stopped)
    for checkpoint in (stopped / "checkpoints").iterdir():
        if checkpoint.name != "2":  # as a run that was killed after its second step leaves it
            shutil.rmtree(checkpoint)
    said = resuming(stopped)
    assert "resumed at step 2" in said and "Traceback" not in said, said
    resumed = ig.load(stopped)
    assert resumed.experiment == run.experiment and resumed.step == run.experiment.steps
    pairs = zip(jax.tree.leaves_with_path(resumed.state), jax.tree.leaves(run.state), strict=True)
    for (path, a), b in pairs:
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), jax.tree_util.keystr(path)


@pytest.mark.slow
@pytest.mark.of(FIRST)
def test_one_device_equals_eight(finished):
    """From the state that one makes, two steps of both, or four where the third or fourth is of another kind."""
    run, begun = finished.run, finished.begun
    model = run.experiment.model
    steps = 2 if kinds_of_steps(model, 2) == kinds_of_steps(model, 4) else 4
    one = ig.load(run.workdir, step=steps).state
    program = ig.Program(dataclasses.replace(run.experiment, mesh=MeshShape(4, 2)))
    many = jax.device_put(begun, state_sharding(program.mesh, begun))
    for step in range(steps):
        many, _ = program.advance(many, step, program.batch(step))
    assert_close(one.params, many.params)


@pytest.mark.slow
@pytest.mark.of([name for name in FIRST if name in FAST])
def test_eight_devices_begin_as_one_does(finished):
    run, begun = finished.run, finished.begun
    many = ig.Program(dataclasses.replace(run.experiment, mesh=MeshShape(4, 2)))
    assert_close(begun.params, many.init().params)


def assert_close(one, many):
    """To a rounding of the largest value of each array.

    Biases of an attention's keys are left out where they are arrays of their own: they add the same to all that a
    query's weights are made of, so that their gradient is rounding alone, which Adam turns into steps.
    """
    pairs = zip(jax.tree.leaves_with_path(jax.device_get(one)), jax.tree.leaves(jax.device_get(many)), strict=True)
    for (path, a), b in pairs:
        if jax.tree_util.keystr(path).endswith("['key']['bias']"):
            continue
        assert np.abs(a - b).max() < 2e-7 * max(1, np.abs(a).max()), jax.tree_util.keystr(path)


def test_a_step_is_compiled_once_for_each_stage_and_due(finished):
    experiment = finished.run.experiment
    assert finished.compiled <= len(kinds_of_steps(experiment.model, experiment.steps))


@pytest.mark.slow
@pytest.mark.of(DRAWING)
def test_samples_are_images_and_follow_their_key(finished):
    """As many as in the grids of the run, for which the sampler is compiled already."""
    run = finished.run
    labels, _, n = rows_of_grid(run.experiment)
    images = run.sample(n, labels)
    assert images.shape == (n, *sample_shape(run.experiment.model)) and images.dtype == kept(run.experiment.model)
    np.testing.assert_array_equal(images, run.sample(n, labels))
    assert not np.array_equal(images, run.sample(n, labels, seed=1))


@pytest.mark.slow
@pytest.mark.of(DRAWING)
def test_samples_are_in_range_before_they_are_kept(finished):
    """The sampler of its grids refuses those that are not (`in_range`)."""
    run = finished.run
    assert {shape[1:] for shape in finished.drawn} == {sample_shape(run.experiment.model)}
    labels, _, n = rows_of_grid(run.experiment)
    run.sample(n, labels)


def test_samples_beyond_the_range_are_refused(monkeypatch):
    refuse_beyond(monkeypatch)
    _, flags = draw.to_bytes(jnp.array([-1.0, 0.0, 1.0, 1.01]).reshape(4, 1, 1, 1))
    assert flags.tolist() == [True, True, True, False]
    with pytest.raises(NonFiniteError, match="1 of 4 images"):
        check_finite_images(flags, {})


def test_samplers_that_refuse_them_are_no_others():
    """Those that were made before tell nothing, and later ones are not refused what these are."""
    sampler = draw._sampler
    with pytest.MonkeyPatch.context() as patch:
        refuse_beyond(patch)
        assert draw._sampler is not sampler and draw._sampler.cache_info().currsize == 0
    assert draw._sampler is sampler


def kept(model):
    """What samples are kept as: images at 8 bits, latents as they are."""
    return np.uint8 if space_of(model).draws_images else np.float32


# --- recipes that differ from these in numbers -----------------------------------------------------------------------


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in TRACED])
def traced(request):
    """The program of a recipe, of which nothing is compiled but the way to its data."""
    yield ig.Program(smoke(request.param, steps=steps_needed(RECIPES[request.param])))
    compiling.forget()


def test_traced_steps_change_what_they_train_and_nothing_else(traced):
    """Each (stage, due) gives a loss a phase, and the state as it was in shapes and dtypes, a step further.

    An array that a step leaves alone is the same variable of its program before and after, so what moves is known.
    """
    model, moved = traced.experiment.model, {}
    stages = {stage_at(model, step): step for step in reversed(range(traced.experiment.steps))}
    for stage, begin in stages.items():
        for due, step in due_steps(model, begin, traced.experiment.steps).items():
            state, changed, after, metrics = trace(traced, stage, due, step)
            assert types(after) == types(state)
            assert {f"{name}/loss" for name in due} <= set(metrics)
            assert {(a.shape, a.dtype) for a in metrics.values()} == {((), np.dtype("float32"))}
            trains = {name for phase in model.phases(stage) if phase.name in due for name in phase.trains}
            for network, arrays in changed.items():
                assert network in trains or not any(arrays.values()), network
                moved[network] = {path: has or moved.get(network, {}).get(path, False) for path, has in arrays.items()}
    for network, arrays in moved.items():
        assert set(arrays.values()) == {network in traced.experiment.optim}, (network, arrays)


def types(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


def trace(program, stage, due, step):
    """(state, network -> parameter -> whether a step changes it, the state after it, its metrics), by shapes alone."""
    state = program.abstract_state(step + 1)
    step = functools.partial(train_step, program.spec, stage, due)
    jaxpr, (after, metrics) = jax.make_jaxpr(step, return_shape=True)(state, program.batch(0), program.constants)
    before = jax.tree.unflatten(jax.tree.structure(state), jaxpr.jaxpr.invars[: len(jax.tree.leaves(state))])
    then = jax.tree.unflatten(jax.tree.structure(state), jaxpr.jaxpr.outvars[: len(jax.tree.leaves(state))])
    changed = {
        network: {
            jax.tree_util.keystr(path): old is not new
            for (path, old), new in zip(
                jax.tree.leaves_with_path(params), jax.tree.leaves(then.params[network]), strict=True
            )
        }
        for network, params in before.params.items()
    }
    return state, changed, after, metrics


def test_traced_samplers_draw_images(traced):
    model, state = traced.experiment.model, traced.abstract_state(traced.experiment.steps)
    if not isinstance(model, Generative):
        pytest.skip("draws no images")
    labels, _, n = rows_of_grid(traced.experiment)
    nets = networks(state, traced.spec.average)
    given = filled_from_data(label_conditions(labels), model, lambda: traced.dataset, n, seed=0)
    sampler, chunk = drawing(model, nets, n, given, chunk=256)
    images, finite = sampler.eval_shape(nets, np.uint32(0), np.uint32(0), rows_at(given, 0, chunk))
    assert images.shape == (chunk, *sample_shape(model)) and images.dtype == kept(model) and len(finite) == chunk


# --- all recipes, at full size ---------------------------------------------------------------------------------------

PUBLISHED = json.loads((pathlib.Path(__file__).parents[1] / "reference" / "published_counts.json").read_text())


@pytest.mark.parametrize("recipe", [quick(name) for name in NAMES])
def test_full_size_parameter_counts_are_the_published_ones(recipe):
    experiment = importlib.import_module(f"experiments.{recipe}").experiment
    state = abstract_state(experiment, model_row_shapes(experiment), MeshShape(data=1).build(), 0)
    counts = {network: found["count"] for network, found in parameter_summary(state).items()}
    assert all(count > 0 for count in counts.values())
    for network, published in PUBLISHED.get(recipe, {}).items():
        assert counts[network] == published


# --- which are trained -----------------------------------------------------------------------------------------------


def test_a_recipe_of_every_class_in_every_place_is_trained():
    made_of = {name: parts(recipe) for name, recipe in RECIPES.items()}
    trained = frozenset().union(*(made_of[name] for name in TRAINED))
    assert all(made_of[name] <= trained for name in NAMES) and set(FAST) <= set(TRAINED) < set(NAMES)
    models = {type(recipe.model) for recipe in RECIPES.values()}
    assert models == {type(RECIPES[name].model) for name in TRAINED}


def test_parts_tell_classes_and_what_is_absent_but_not_numbers():
    recipe = RECIPES["dcgan_mnist"]
    assert parts(recipe) == parts(ig.override(recipe, {"batch_size": 4, "optim.generator.lr": 1.0, "steps": 7}))
    assert parts(recipe) != parts(dataclasses.replace(recipe, microbatches=2))
    assert parts(recipe) != parts(dataclasses.replace(recipe, clip_norm=1.0 if recipe.clip_norm is None else None))
    assert parts(recipe) != parts(dataclasses.replace(recipe, optim={**recipe.optim, "generator": SGD(0.1)}))
    model = dataclasses.replace(recipe.model, objective=Wasserstein())
    assert parts(dataclasses.replace(recipe, model=model)) - parts(recipe) >= {("DCGAN", "objective", "Wasserstein")}


def test_parts_of_a_frozen_network_are_those_of_the_recipes_that_train_it():
    prior, tokenizer = RECIPES["maskgit_imagenet256"], RECIPES["vqvae_cifar10"]
    other = dataclasses.replace(prior, model=dataclasses.replace(prior.model, tokenizer=tokenizer.model))
    assert parts(other) == parts(prior) and ("MaskGIT", "tokenizer", "VQVAE") in parts(prior)
    assert ("VQVAE", "network", "Tokenizer") in parts(tokenizer) - parts(prior)


def test_a_recipe_is_chosen_for_what_no_other_has():
    made_of = {"a": {1, 2}, "b": {1, 2}, "c": {1, 2, 3}, "d": {4}}
    assert chosen({name: frozenset(found) for name, found in made_of.items()}) == ("c", "d")
    assert chosen({name: frozenset(found) for name, found in made_of.items()}, ["b"]) == ("b", "d", "c")
