"""Pix2Pix: torch's layers at random weights, the paper's sizes, losses by hand, noise, and learning on tiny data."""

from __future__ import annotations

import dataclasses
import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from latent_models import filled

import imagegen_jax as ig
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.model import Inputs
from imagegen_jax.gan.translation.pix2pix import Generator, Pix2Pix
from imagegen_jax.nn.backbones.patch import PatchDiscriminator
from imagegen_jax.nn.objectives import LeastSquares, NonSaturating, RelativisticPairing

KEY = jax.random.key(0)


def tiny(**settings) -> Pix2Pix:
    settings = {"image_shape": (16, 16, 1), "source_channels": 2, **settings}
    return Pix2Pix(**{"generator": Generator(2, 4), "discriminator": PatchDiscriminator(2, 1), **settings})


def batch_of(model: Pix2Pix, n: int) -> dict[str, jax.Array]:
    height, width, channels = model.image_shape
    shapes = {"image": channels, "source": model.source_channels}
    keys = jax.random.split(KEY, 2)
    return {
        name: jax.random.uniform(key, (n, height, width, c), minval=-1.0)
        for key, (name, c) in zip(keys, shapes.items(), strict=True)
    }


def inputs(batch, key=KEY) -> Inputs:
    return Inputs(batch, key, jax.random.split(key, len(batch["image"])), jnp.int32(0), {})


@pytest.fixture(scope="module")
def made():
    """(model, its fresh networks, a batch of 3)."""
    model = tiny()
    batch = batch_of(model, 3)
    return model, jax.jit(batch_draws(model.init))(KEY, batch), batch


# --- against torch ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch(root):
    """The arrays of tests/reference/make_translation.py."""
    with np.load(root / "tests/reference/torch_translation.npz") as arrays:
        return dict(arrays)


def ported(arrays, network: str, first_norm_up: int = 0) -> dict:
    """Torch's parameters of a network, in this package's names and layouts; norms on the way up follow those down."""
    params: dict = {}
    lists = {"downs": "Halve", "ups": "Double", "convs": "Conv", "down_norms": "BatchNorm", "norms": "BatchNorm"}
    last = {"unet": ("Double_4",), "patch_batch": ("Conv_4",), "patch_instance": ("Conv_4",)}[network]
    for path, value in arrays.items():
        owner, _, name = path.partition("/")
        if owner != network:
            continue
        layer, *number, leaf = name.split(".")
        if layer == "up_norms":
            where = (f"BatchNorm_{first_norm_up + int(number[0])}", "norm")
        else:
            where = (f"{lists[layer]}_{number[0]}",) if number else last
            where += {"downs": ("conv",), "down_norms": ("norm",), "norms": ("norm",)}.get(layer, ())
        if value.ndim == 4:
            mirrored = where[0].startswith("Double")
            value = value.transpose(2, 3, 0, 1)[::-1, ::-1] if mirrored else value.transpose(2, 3, 1, 0)
        leaf = "bias" if leaf == "bias" else "kernel" if value.ndim == 4 else "scale"
        node = params
        for part in where:
            node = node.setdefault(part, {})
        node[leaf] = jnp.asarray(value)
    return params


def nhwc(image):
    return jnp.asarray(image).transpose(0, *range(2, image.ndim), 1) if image.ndim == 4 else jnp.asarray(image)


def check_against(torch, name: str, apply, fresh, params) -> None:
    """The structure of parameters, the output, and the gradient of its squared sum by the input."""
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, params)
    x = nhwc(torch[f"at/{name}_in"])
    np.testing.assert_allclose(apply(params, x), nhwc(torch[f"at/{name}_out"]), atol=5e-5)
    found = jax.jit(jax.grad(lambda x: jnp.sum(apply(params, x) ** 2)))(x)
    wanted = nhwc(torch[f"at/{name}_gradient"])
    np.testing.assert_allclose(found, wanted, atol=2e-4 * float(jnp.abs(wanted).max()))


@pytest.mark.slow
def test_generator_equals_torch(torch):
    network = Generator(2, levels=5)
    x = nhwc(torch["at/unet_in"])
    fresh = jax.eval_shape(lambda: network.init(KEY, x, 3, None, train=True))

    def apply(params, x):
        variables = {"params": params, "batch_stats": jax.tree.map(lambda s: jnp.zeros(s.shape), fresh["batch_stats"])}
        return network.apply(variables, x, 3, None, train=True, mutable=["batch_stats"])[0]

    check_against(torch, "unet", apply, fresh["params"], ported(torch, "unet", first_norm_up=3))


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_discriminator_equals_torch(torch, norm):
    network = PatchDiscriminator(2, norm=norm)
    fresh = jax.eval_shape(lambda: network.init(KEY, jnp.zeros((1, 32, 32, 3))))
    stats = jax.tree.map(lambda s: jnp.zeros(s.shape), fresh.get("batch_stats", {}))

    def apply(params, x):
        return network.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])[0]

    check_against(torch, f"patch_{norm}", apply, fresh["params"], ported(torch, f"patch_{norm}"))


# --- sizes -----------------------------------------------------------------------------------------------------------


def counts(nets) -> dict[str, int]:
    return {name: sum(math.prod(p.shape) for p in jax.tree.leaves(v["params"])) for name, v in nets.items()}


def test_published_parameter_counts():
    batch = {name: jax.ShapeDtypeStruct((2, 256, 256, 3), jnp.float32) for name in ("image", "source")}
    found = counts(jax.eval_shape(Pix2Pix().init, KEY, batch))
    assert found == {"generator": 54_413_955, "discriminator": 2_768_705}  # pytorch-CycleGAN-and-pix2pix


@pytest.mark.slow
@pytest.mark.parametrize(("halvings", "patch"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_patch_of_the_papers_size(halvings, patch):
    network = PatchDiscriminator(1, halvings)
    x = jax.random.normal(KEY, (1, 96, 96, 1))
    variables = network.init(KEY, x, train=False)

    def middle(x):
        logits = network.apply(variables, x, train=False)
        return logits[0, logits.shape[1] // 2, logits.shape[2] // 2]

    seen = jnp.abs(jax.jit(jax.grad(middle))(x))[0, :, :, 0] > 0
    assert seen.any(0).sum() == seen.any(1).sum() == patch


@pytest.mark.parametrize(("shape", "levels"), [((64, 64, 3), 6), ((64, 64, 3), 3), ((33, 50, 1), 6), ((8, 8, 1), 2)])
def test_every_size(shape, levels):
    model = tiny(image_shape=shape, generator=Generator(2, levels))
    batch = {"image": jax.ShapeDtypeStruct((2, *shape), jnp.float32)}
    batch["source"] = jax.ShapeDtypeStruct((2, *shape[:2], 2), jnp.float32)
    nets = jax.eval_shape(model.init, KEY, batch)
    sample = jax.eval_shape(lambda nets, x: model.sample(nets, KEY, 2, {"source": x}), nets, batch["source"])
    assert (sample.shape, sample.dtype) == ((2, *shape), jnp.float32)


@pytest.mark.slow
def test_what_cannot_be_is_refused():
    batch = batch_of(tiny(), 2)
    with pytest.raises(ValueError, match="levels=5: images of 16x16 can be halved 4 times.*set it to 4"):
        tiny(generator=Generator(2, 5)).init(KEY, batch)
    with pytest.raises(ValueError, match="halvings=3 .* 16x16: use at most 2"):
        tiny(discriminator=PatchDiscriminator(2)).init(KEY, batch)
    with pytest.raises(ValueError, match="makes images from 'source', which is not given"):
        tiny().init(KEY, {"image": batch["image"]})
    with pytest.raises(ValueError, match="'source' has rows of 16x16x2, but this Pix2Pix wants 16x16x3"):
        tiny(source_channels=3).init(KEY, batch)
    with pytest.raises(ValueError, match="which is not given"):
        tiny().sample({}, KEY, 2, {})


# --- phases ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("objective", [NonSaturating(), LeastSquares(), RelativisticPairing()])
def test_losses_are_those_of_the_paper(made, objective):
    """Eq. 4 with any objective, computed anew from the networks."""
    _, nets, batch = made
    model, given = tiny(objective=objective), inputs(batch)

    @jax.jit
    def by_hand(nets):
        fake = model._generate(nets["generator"], batch["source"], given.keys)[0]
        real, judged = (
            model.discriminator.apply(
                nets["discriminator"], jnp.concatenate([batch["source"], y], -1), mutable=["batch_stats"]
            )[0].ravel()
            for y in (batch["image"], fake)
        )
        l1 = jnp.abs(batch["image"] - fake).mean()
        return 0.5 * objective.discriminator(real, judged), objective.generator(judged, real) + 100 * l1

    discriminator, generator = by_hand(nets)
    found, aux = jax.jit(model.discriminator_loss)(nets, given)
    np.testing.assert_allclose(found, discriminator, rtol=1e-5)
    assert set(aux.stats) == {"discriminator"}
    found, aux = jax.jit(model.generator_loss)(nets, given)
    np.testing.assert_allclose(found, generator, rtol=1e-5)
    assert set(aux.stats) == {"generator"} and aux.images.shape == batch["image"].shape


def test_the_only_noise_is_dropout_of_the_rows_keys():
    model, batch = tiny(), batch_of(tiny(), 3)
    nets = filled(model.init, KEY, batch)
    make = jax.jit(lambda keys: model._generate(nets["generator"], batch["source"], keys)[0])
    one, other = jax.random.split(KEY, 3), jax.random.split(jax.random.key(1), 3)
    np.testing.assert_array_equal(make(one), make(one))
    assert np.any(make(one) != make(other))
    still = tiny(generator=Generator(2, 4, dropout=0.0))
    make = jax.jit(lambda keys: still._generate(nets["generator"], batch["source"], keys)[0])
    np.testing.assert_array_equal(make(one), make(other))


@pytest.mark.slow
def test_samples_have_noise_and_their_own_statistics(made):
    """Each as in a batch of one, whatever is drawn beside it; with the switches, without noise or by running ones."""
    model, nets, batch = made
    draw = jax.jit(lambda model, x, key: model.sample(nets, key, len(x), {"source": x}), static_argnums=0)
    found = draw(model, batch["source"], KEY)
    assert (found != draw(model, batch["source"], jax.random.key(1))).any()
    still = dataclasses.replace(model, sample_dropout=False)
    found = draw(still, batch["source"], KEY)
    np.testing.assert_array_equal(found, draw(still, batch["source"], jax.random.key(1)))
    alone = model._generate(nets["generator"], batch["source"][1:2], None)[0]
    np.testing.assert_allclose(found[1:2], alone, atol=1e-5)
    running = dataclasses.replace(still, sample_norm="running")
    wanted = model.generator.apply(nets["generator"], batch["source"], 1, None, train=False)
    np.testing.assert_allclose(draw(running, batch["source"], KEY), wanted, atol=1e-5)


@pytest.mark.slow
def test_it_learns_on_tiny_data():
    """The difference from the images falls within 150 steps of the recipe's smoke run."""
    module = importlib.import_module("experiments.pix2pix_facades")
    experiment = ig.override(module.experiment, module.smoke)
    program = ig.Program(dataclasses.replace(experiment, mesh=MeshShape(data=1), steps=150))
    state, l1 = program.init(), []
    for step in range(150):
        state, metrics = program.advance(state, step, program.batch(step))
        l1.append(float(metrics["generator/l1"]))
    assert np.mean(l1[-5:]) < 0.85 * np.mean(l1[:5])
