"""Properties of every GAN: what moves an image, and what a phase may change.

The recipes are discovered, so that a new one is tested without being named here. Below them are tiny networks of those
kinds that no recipe has, or whose losses are looked at more closely.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mechanisms import TRAINED
from recipes_of_gans import GANS as RECIPES
from recipes_of_gans import shapes

from imagegen_jax.core.config.choices import options_of
from imagegen_jax.core.model import Inputs, condition_rows
from imagegen_jax.core.step import stage_at
from imagegen_jax.gan import dcgan, losses
from imagegen_jax.gan.dcgan import DCGAN
from imagegen_jax.gan.residual import biggan_networks, sngan
from imagegen_jax.gan.residual.biggan import BigGAN
from imagegen_jax.gan.residual.biggan_deep import DeepDiscriminator, DeepGenerator
from imagegen_jax.gan.residual.sngan import SNGAN

ROWS, KEY = 6, jax.random.key(0)

# --- every recipe ----------------------------------------------------------------------------------------------------

every_recipe = pytest.mark.parametrize("name", RECIPES)
ONE_OF_EACH_MODEL = {type(experiment.model): name for name, experiment in RECIPES.items()}.values()


def judged(model, nets, batch):
    """(phase, what its loss returns), by shapes alone."""
    given = Inputs(batch, KEY, jax.random.split(KEY, ROWS), jnp.int32(0), nets)
    return [(phase, jax.eval_shape(phase.loss, nets, given)) for phase in model.phases(stage_at(model, 0))]


@every_recipe
def test_phases_of_recipes_keep_to_what_they_train(name):
    """No loss touches the statistics of a network that it does not train; penalties are the discriminators' alone."""
    batch, nets = shapes(RECIPES[name], ROWS)
    discriminators = {network for network in nets if "discriminator" in network or network == "critic"}
    found = judged(RECIPES[name].model, nets, batch)
    assert {network for phase, _ in found for network in phase.trains} == set(nets) > discriminators > set()
    for phase, (loss, aux) in found:
        assert (loss.shape, loss.dtype) == ((), jnp.float32)
        assert set(aux.stats) <= set(phase.trains)
        assert set(phase.trains) <= discriminators or not discriminators & set(phase.trains)
        of_paths = "path_length" in aux.metrics  # the one penalty of a generator
        assert set(phase.trains) <= discriminators or of_paths or not {"penalty", "r1", "r2"} & set(aux.metrics)


@pytest.mark.parametrize("name", ONE_OF_EACH_MODEL)
def test_every_model_takes_objectives_that_pair_and_that_have_no_sign(name):
    model = RECIPES[name].model
    if not hasattr(model, "objective"):
        pytest.skip(f"{type(model).__name__} has the objective of its paper alone")
    unaugmented = {"augment": None} if hasattr(model, "augment") else {}  # whose adaptation reads signs
    model = dataclasses.replace(model, **unaugmented)
    batch, nets = shapes(dataclasses.replace(RECIPES[name], model=model), ROWS)
    for objective in (losses.RelativisticPairing(), losses.LeastSquares()):
        for _, (loss, _) in judged(dataclasses.replace(model, objective=objective), nets, batch):
            assert (loss.shape, loss.dtype) == ((), jnp.float32)


def filled(shapes, draw):
    """Arrays of these shapes; counters are 0."""
    return jax.tree.map(
        lambda a: np.where(np.issubdtype(a.dtype, np.floating), draw(a.shape), 0).astype(a.dtype), shapes
    )


def moved(nets):
    """Networks of these shapes that have left the start, at which some weights are 0 or the same for all classes."""
    rng = np.random.default_rng(0)
    return {
        network: filled(variables, lambda shape: 0.5 + rng.random(shape))  # variances, vectors, noise
        | filled({"params": variables["params"]}, lambda shape: 0.3 * rng.standard_normal(shape))
        for network, variables in nets.items()
    }


@pytest.mark.parametrize("name", [name for name in RECIPES if name in TRAINED])
def test_latents_labels_and_sources_change_the_images_of_recipes(name):
    """Of one recipe for each mechanism."""
    model, rng = RECIPES[name].model, np.random.default_rng(1)
    batch, nets = shapes(RECIPES[name], 4)
    nets = moved(nets)
    conditions = filled({row: a for row, a in batch.items() if row != "image"}, lambda shape: rng.uniform(-1, 1, shape))
    draw = jax.jit(  # compiled as quickly as can be
        lambda nets, seed, conditions: model.sample(nets, jax.random.key(seed), 4, conditions),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    images = np.asarray(draw(nets, 0, conditions))
    assert images.shape == (4, *model.image_shape) and abs(images).max() <= 1
    others = {row: {**conditions, row: -a if row == "source" else a + 1} for row, a in conditions.items()}
    drawn = {row: draw(nets, 0, other) for row, other in others.items()}
    if not condition_rows(model):
        drawn["latent"] = draw(nets, 1, conditions)
    for what, changed in drawn.items():
        assert (abs(np.asarray(changed) - images).max(axis=(1, 2, 3)) > 1e-4).all(), what
    assert drawn


# --- chosen networks -------------------------------------------------------------------------------------------------

SHAPE = (8, 8, 2)
small = {"width": 4, "multipliers": (1, 1)}
player = {**small, "halvings": 1}

GANS = {
    "dcgan": DCGAN(SHAPE, dcgan.Generator(4), dcgan.Discriminator(4), 5),
    "sngan": SNGAN(SHAPE, sngan.Generator(**small), sngan.Discriminator(**player), 5, generator_batches=2),
    "sngan_acgan": SNGAN(
        SHAPE, sngan.Generator(**small), sngan.Discriminator(**player, labels="acgan"), 5, num_classes=3
    ),
    "sagan": SNGAN(
        SHAPE,
        sngan.Generator(**small, spectral=True, attention=8),
        sngan.Discriminator(**player, attention=4),
        5,
        num_classes=3,
    ),
    "biggan": BigGAN(
        SHAPE,
        biggan_networks.Generator(**small, shared_dim=4, attention=8, start="normal"),
        biggan_networks.Discriminator(**player, attention=4, start="normal"),
        latent_dim=6,
        num_classes=3,
    ),
    "biggan_deep": BigGAN(
        SHAPE,
        DeepGenerator(**small, shared_dim=4, attention=8),
        DeepDiscriminator(**player, attention=4),
        latent_dim=6,
        num_classes=3,
    ),
}
SLOW = ("sagan", "biggan", "biggan_deep")  # to compile
CONDITIONAL = [name for name, model in GANS.items() if getattr(model, "num_classes", 0)]
OBJECTIVES = options_of(losses.AnyObjective).load_all()


def each(names):
    return pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in names])


every_gan, every_conditional_gan = each(GANS), each(CONDITIONAL)


def batch(name):
    labels = {"label": jnp.arange(ROWS) % 3} if name in CONDITIONAL else {}
    return {"image": jnp.tanh(jax.random.normal(jax.random.key(7), (ROWS, *SHAPE))), **labels}


def inputs(name):
    return Inputs(batch(name), KEY, jax.random.split(KEY, ROWS), jnp.int32(0), {})


@functools.cache
def networks(name):
    """Drawn by NumPy: nothing to compile."""
    return moved(jax.eval_shape(GANS[name].init, KEY, batch(name)))


@functools.cache
def sampler(name):
    return jax.jit(GANS[name].sample, static_argnums=2)


@functools.cache
def stepped(name, phase_name):
    """(phase, loss, aux, loss after a small step down the gradient)"""
    (phase,) = [phase for phase in GANS[name].phases(None) if phase.name == phase_name]
    nets, given = networks(name), inputs(name)

    def loss(params, nets):
        held = {n: {**variables, "params": params.get(n, variables["params"])} for n, variables in nets.items()}
        return phase.loss(held, given)

    descend = jax.jit(jax.value_and_grad(loss, has_aux=True))
    params = {n: nets[n]["params"] for n in phase.trains}
    (value, aux), gradient = jax.device_get(descend(params, nets))
    length = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradient)))
    (after, _), _ = descend(jax.tree.map(lambda p, g: p - np.float32(1e-3) * g / length, params, gradient), nets)
    return phase, value, aux, after


def labels(name, k=0):
    return {"label": jnp.full(4, k)} if name in CONDITIONAL else {}


@pytest.mark.slow
@every_gan
def test_latents_change_the_image_and_the_key_decides_them(name):
    sample, nets = sampler(name), networks(name)
    one, again, other = (sample(nets, jax.random.key(k), 4, labels(name)) for k in (0, 0, 1))
    assert one.shape == (4, *SHAPE) and one.dtype == jnp.float32 and abs(one).max() <= 1
    np.testing.assert_array_equal(one, again)
    assert (abs(one - other).max(axis=(1, 2, 3)) > 1e-6).all()
    assert abs(one[0] - one[1]).max() > 1e-6


@pytest.mark.slow
@every_conditional_gan
def test_label_changes_the_image(name):
    one, other = (sampler(name)(networks(name), KEY, 4, labels(name, k)) for k in (0, 1))
    assert (abs(one - other).max(axis=(1, 2, 3)) > 1e-4).all()


@every_conditional_gan
def test_labels_are_asked_for(name):
    with pytest.raises(ValueError, match="label"):
        GANS[name].sample(networks(name), KEY, 4, {})
    with pytest.raises(ValueError, match="label"):
        GANS[name].init(KEY, {"image": jnp.zeros((2, *SHAPE))})


@pytest.mark.slow
@every_gan
@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_a_phase_changes_its_own_network_alone(name, phase):
    """Statistics come back for what it trains, in the structure and dtypes of the ones given; each kind has moved."""
    phase, _, aux, _ = stepped(name, phase)
    held = {c: v for c, v in networks(name)[phase.name].items() if c != "params"}
    assert phase.trains == (phase.name,) and set(aux.stats) == {phase.name}
    assert jax.tree.map(jax.typeof, aux.stats[phase.name]) == jax.tree.map(jax.typeof, held)
    for collection, before in held.items():
        after = aux.stats[phase.name][collection]
        assert any((a != b).any() for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True))


@every_gan
@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_a_step_down_the_gradient_lowers_the_loss(name, phase):
    _, before, _, after = stepped(name, phase)
    assert after < before


@every_gan
def test_a_phase_shows_what_was_generated(name):
    images = stepped(name, "generator")[2].images
    assert images.shape == (ROWS * getattr(GANS[name], "generator_batches", 1), *SHAPE)


@every_gan
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_any_objective(name, objective):
    model = dataclasses.replace(GANS[name], objective=objective())
    for phase in model.phases(None):
        value, _ = jax.eval_shape(phase.loss, networks(name), inputs(name))
        assert (value.shape, value.dtype) == ((), jnp.float32)
