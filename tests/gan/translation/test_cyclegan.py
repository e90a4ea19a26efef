"""CycleGAN: torch's layers at random weights, published sizes, losses by hand, the pool, and learning on tiny data."""

from __future__ import annotations

import dataclasses
import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import imagegen_jax as ig
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.model import Inputs
from imagegen_jax.gan.translation.cyclegan import CycleGAN, Generator, exchange, fresh_pool
from imagegen_jax.nn.backbones.patch import PatchDiscriminator
from imagegen_jax.nn.objectives import RelativisticPairing

KEY = jax.random.key(0)


def tiny(**settings) -> CycleGAN:
    settings = {"image_shape": (16, 16, 2), "pool_size": 4, **settings}
    return CycleGAN(generator=Generator(2, 1), **{"discriminator": PatchDiscriminator(2, 1, "instance"), **settings})


def inputs(n: int = 3, key=KEY) -> Inputs:
    y, x = jax.random.uniform(key, (2, n, 16, 16, 2), minval=-1.0)
    return Inputs({"image": y, "source": x}, key, jax.random.split(key, n), jnp.int32(0), {})


@pytest.fixture(scope="module")
def nets():
    return jax.jit(batch_draws(tiny().init))(KEY, inputs().batch)


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_generator_equals_torch(root):
    """The output, and the gradient of its squared sum by the input."""
    with np.load(root / "tests/reference/torch_translation.npz") as arrays:
        torch = {name.removeprefix("resnet/"): arrays[name] for name in arrays if "resnet" in name}
    params: dict = {}
    for name, value in torch.items():
        if name.startswith("at/"):
            continue
        layer, number, leaf = name.split(".")
        kernel = value.transpose(2, 3, 1, 0) if layer == "convs" and leaf == "weight" else value
        if layer == "ups" and leaf == "weight":  # [I O H W], mirrored
            kernel = value.transpose(2, 3, 0, 1)[::-1, ::-1]
        where = params.setdefault(f"{'Conv' if layer == 'convs' else 'Double'}_{number}", {})
        where["kernel" if leaf == "weight" else "bias"] = jnp.asarray(kernel)
    x, wanted, gradient = (torch[f"at/resnet_{key}"].transpose(0, 2, 3, 1) for key in ("in", "out", "gradient"))
    network = Generator(2, blocks=2)
    fresh = jax.eval_shape(network.init, KEY, x)["params"]
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, params)
    np.testing.assert_allclose(network.apply({"params": params}, x), wanted, atol=5e-5)
    found = jax.jit(jax.grad(lambda x: jnp.sum(network.apply({"params": params}, x) ** 2)))(x)
    np.testing.assert_allclose(found, gradient, atol=2e-4 * np.abs(gradient).max())


def test_published_parameter_counts():
    batch = {name: jax.ShapeDtypeStruct((2, 256, 256, 3), jnp.float32) for name in ("image", "source")}
    found = jax.eval_shape(CycleGAN().init, KEY, batch)
    counts = {name: sum(math.prod(p.shape) for p in jax.tree.leaves(v["params"])) for name, v in found.items()}
    assert counts == {  # pytorch-CycleGAN-and-pix2pix
        "to_image": 11_378_179,
        "to_source": 11_378_179,
        "image_discriminator": 2_764_737,
        "source_discriminator": 2_764_737,
    }
    pool = found["image_discriminator"]["pool"]
    assert pool["images"].shape == (50, 256, 256, 3) and "pool" not in found["to_image"]


def test_networks_start_apart():
    """No two have the same weights; biases are zero."""

    @jax.jit  # what is not put out is not drawn
    def first_layers(key):
        return {name: net["params"]["Conv_0"] for name, net in tiny().init(key, inputs().batch).items()}

    layers = first_layers(KEY)
    for one, other in (("to_image", "to_source"), ("image_discriminator", "source_discriminator")):
        assert (np.asarray(layers[one]["kernel"]) != np.asarray(layers[other]["kernel"])).all()
        assert not np.any(layers[one]["bias"])


def test_what_cannot_be_is_refused():
    batch = inputs().batch
    with pytest.raises(ValueError, match="divisible by 4"):
        tiny(image_shape=(18, 16, 2)).init(KEY, {name: jnp.zeros((2, 18, 16, 2)) for name in batch})
    with pytest.raises(ValueError, match="must be 'instance'"):
        CycleGAN(discriminator=PatchDiscriminator())
    with pytest.raises(ValueError, match="pool_size=-1"):
        tiny(pool_size=-1)
    with pytest.raises(ValueError, match="makes images from 'source', which is not given"):
        tiny().init(KEY, {"image": batch["image"]})
    with pytest.raises(ValueError, match="'source' has rows of 16x16x1, but this CycleGAN wants 16x16x2"):
        tiny().init(KEY, {**batch, "source": batch["source"][..., :1]})


# --- the pool --------------------------------------------------------------------------------------------------------


def run_pool(size: int, n: int, batch: int, key=KEY) -> tuple[np.ndarray, list[np.ndarray]]:
    """The numbers of the images shown for images 0 to n, and the numbers in the pool after each batch."""
    pool, shown, held = fresh_pool(size, (1, 1, 1)), [], []
    step = jax.jit(exchange)
    for start in range(0, n, batch):
        images = jnp.arange(start, start + batch, dtype=jnp.float32).reshape(-1, 1, 1, 1)
        keys = jax.random.split(jax.random.fold_in(key, start), batch)
        pool, given = step(pool, images, keys)
        shown.append(np.asarray(given).ravel())
        held.append(np.asarray(pool["images"]).ravel())
    assert pool["count"] == min(n, size) and pool["count"].dtype == jnp.int32
    return np.concatenate(shown), held


@pytest.mark.parametrize("batch", [1, 7])
def test_the_first_images_pass_and_fill_the_pool(batch):
    """50 of them, also where a batch straddles the end."""
    shown, held = run_pool(50, 56, batch)
    np.testing.assert_array_equal(shown[:50], np.arange(50))
    np.testing.assert_array_equal(held[49 // batch - 1][: 49 // batch * batch], np.arange(49 // batch * batch))


def test_later_half_of_those_shown_are_old():
    """And each of these was kept until then, is shown once, and gives its place to the one it is shown for."""
    shown, _ = run_pool(50, 2000, 4)
    now = np.arange(2000)
    old = shown != now
    assert 0.45 < old[50:].mean() < 0.55  # 1,950 coins: five standard errors are 0.057
    assert (shown[old] < now[old]).all() and len(set(shown[old])) == old.sum()
    kept = set(range(50))
    for number in range(50, 2000):
        if old[number]:
            assert shown[number] in kept
            kept.remove(shown[number])
            kept.add(number)
    ages = (now - shown)[old][200:]
    assert 70 < np.median(ages) < 130  # of a pool of 50 with every second new: geometric with mean 100, plus order


@pytest.mark.slow
def test_the_pool_follows_from_the_keys():
    """The same for the same keys, however the rows are cut into batches."""
    keys = jax.random.split(KEY, 12)
    images = jax.random.normal(KEY, (12, 2, 2, 1))
    whole, shown = jax.jit(exchange)(fresh_pool(4, (2, 2, 1)), images, keys)
    pool, parts = fresh_pool(4, (2, 2, 1)), []
    for start in (0, 5, 10):
        pool, given = exchange(pool, images[start : start + 5], keys[start : start + 5])
        parts.append(given)
    np.testing.assert_array_equal(jnp.concatenate(parts), shown)
    jax.tree.map(np.testing.assert_array_equal, whole, pool)


# --- phases ----------------------------------------------------------------------------------------------------------


def generate(nets, name, x):
    return Generator(2, 1).apply({"params": nets[name]["params"]}, x)


def judge(nets, name, y):
    network = PatchDiscriminator(2, 1, "instance")
    return network.apply({"params": nets[name]["params"]}, y).ravel()


@pytest.mark.slow
def test_the_generators_loss_is_the_papers(nets):
    """Least squares in both domains, 10 times the cycles, 5 times the identities."""
    given = inputs()

    @jax.jit
    def by_hand(nets):
        x, y = given.batch["source"], given.batch["image"]
        fake_y, fake_x = generate(nets, "to_image", x), generate(nets, "to_source", y)
        fooled = [judge(nets, "image_discriminator", fake_y), judge(nets, "source_discriminator", fake_x)]
        cycle = [generate(nets, "to_source", fake_y) - x, generate(nets, "to_image", fake_x) - y]
        same = [generate(nets, "to_image", y) - y, generate(nets, "to_source", x) - x]
        adversarial = sum(jnp.mean((logits - 1) ** 2) for logits in fooled)
        return adversarial, sum(jnp.abs(d).mean() for d in cycle), sum(jnp.abs(d).mean() for d in same)

    adversarial, cycle, identity = by_hand(nets)
    loss, aux = jax.jit(tiny().generators_loss)(nets, given)
    np.testing.assert_allclose(loss, adversarial + 10 * cycle + 5 * identity, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["cycle"], cycle, rtol=1e-5)
    assert not aux.stats and aux.images.shape == (3, 16, 16, 2)
    without, aux = jax.jit(tiny(identity_weight=0.0).generators_loss)(nets, given)
    np.testing.assert_allclose(without, adversarial + 10 * cycle, rtol=1e-5)
    assert aux.metrics["identity"] == 0


@pytest.mark.slow
def test_the_discriminators_loss_is_the_papers_on_what_the_pools_give(nets):
    """Halved least squares; both pools take what their generator made, and nothing else changes."""
    given = inputs()

    @jax.jit
    def by_hand(nets):
        x, y = given.batch["source"], given.batch["image"]
        fakes = {"image": generate(nets, "to_image", x), "source": generate(nets, "to_source", y)}
        losses = [
            jnp.mean((judge(nets, f"{name}_discriminator", real) - 1) ** 2)
            + jnp.mean(judge(nets, f"{name}_discriminator", fakes[name]) ** 2)
            for name, real in (("image", y), ("source", x))
        ]
        return sum(losses) / 2, fakes

    wanted, fakes = by_hand(nets)
    loss, aux = jax.jit(tiny().discriminators_loss)(nets, given)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    assert set(aux.stats) == {"image_discriminator", "source_discriminator"}
    for name, fake in fakes.items():
        (pool,) = aux.stats[f"{name}_discriminator"].values()
        np.testing.assert_allclose(pool["images"][:3], fake, atol=1e-5)
        assert pool["count"] == 3
    other, aux = jax.jit(tiny(pool_size=0).discriminators_loss)(nets, given)
    np.testing.assert_allclose(other, wanted, rtol=1e-5)
    assert not aux.stats


@pytest.mark.slow
def test_phases_train_generators_together_and_discriminators_together(nets):
    """By `trains`; and gradients reach all of a phase's networks."""
    model, given = tiny(objective=RelativisticPairing()), inputs()
    phases = model.phases(None)
    assert [phase.trains for phase in phases] == [
        ("to_image", "to_source"),
        ("image_discriminator", "source_discriminator"),
    ]
    for phase in phases:

        def loss(params, phase=phase):
            changed = {name: {**nets[name], "params": params[name]} for name in phase.trains}
            return phase.loss({**nets, **changed}, given)[0]

        grads = jax.jit(jax.grad(loss))({name: nets[name]["params"] for name in phase.trains})
        kernels = {name: [x for x in jax.tree.leaves(grads[name]) if x.ndim == 4] for name in phase.trains}
        assert all(jnp.abs(kernel).max() > 0 for found in kernels.values() for kernel in found)


@pytest.mark.slow
def test_sampling_goes_from_source_to_image(nets):
    model, x = tiny(), inputs().batch["source"]
    found = model.sample(nets, KEY, 3, {"source": x})
    np.testing.assert_array_equal(found, model.to_image(nets, x))
    assert (found != model.to_source(nets, x)).any()
    with pytest.raises(ValueError, match="which is not given"):
        model.sample(nets, KEY, 3, {})


@pytest.mark.slow
def test_it_learns_on_tiny_data():
    """What is translated and back comes nearer to what it was, within 100 steps of the recipe's smoke run."""
    module = importlib.import_module("experiments.cyclegan_horse2zebra")
    experiment = ig.override(module.experiment, module.smoke)
    program = ig.Program(dataclasses.replace(experiment, mesh=MeshShape(data=1), steps=100))
    state, cycle = program.init(), []
    for step in range(100):
        state, metrics = program.advance(state, step, program.batch(step))
        cycle.append(float(metrics["generators/cycle"]))
    assert np.mean(cycle[-10:]) < 0.97 * np.mean(cycle[:10])
