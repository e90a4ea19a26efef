"""DCGAN: torch's layers at random weights, the paper's sizes and initialisation, and what its phases carry."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.model import Inputs
from imagegen_jax.gan.dcgan import DCGAN, Discriminator, Generator

KEY = jax.random.key(0)


def tiny(**settings) -> DCGAN:
    return DCGAN(
        **{"image_shape": (32, 32, 2), "latent_dim": 6, **settings},
        generator=Generator(3),
        discriminator=Discriminator(3),
    )


def inputs(image, key=KEY) -> Inputs:
    return Inputs({"image": image}, key, jax.random.split(key, len(image)), jnp.int32(0), {})


# --- against torch ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[32, 21])
def torch_dcgan(request, root):
    """The arrays of tests/reference/make_torch.py for one size; 21 halves to 11 and 6."""
    with np.load(root / f"tests/reference/torch_dcgan_{request.param}.npz") as arrays:
        return dict(arrays)


def ported(arrays, prefix: str) -> dict:
    """Torch's parameters `prefix`/NAME, or their gradients, in this package's names and layouts."""
    params = {}
    for name, value in arrays.items():
        owner, _, path = name.partition("/")
        if owner != prefix or "running" in path:
            continue
        layer, *number, leaf = path.split(".")
        if layer == "norms":
            params.setdefault(f"BatchNorm_{number[0]}", {"norm": {}})["norm"]["scale" if leaf == "weight" else leaf] = (
                value
            )
        elif layer == "ups":  # [I O H W], mirrored
            params[f"Double_{number[0]}"] = {"kernel": value.transpose(2, 3, 0, 1)[::-1, ::-1]}
        elif layer == "downs":  # [O I H W]
            params[f"Halve_{number[0]}"] = {"conv": {"kernel": value.transpose(2, 3, 1, 0)}}
        elif prefix.startswith("generator"):  # [D O H W], from a 1x1 image
            params["Dense_0"] = {"kernel": value.transpose(0, 2, 3, 1).reshape(len(value), -1)}
        else:  # [1 I H W], to a 1x1 image
            params["Dense_0"] = {"kernel": value.transpose(2, 3, 1, 0).reshape(-1, 1)}
    return params


def running(arrays, prefix: str) -> dict:
    """Torch's running statistics, by this package's names."""
    stats = {}
    for name, value in arrays.items():
        owner, _, path = name.partition("/")
        if owner == prefix and "running" in path:
            _, number, leaf = path.split(".")
            stats.setdefault(f"BatchNorm_{number}", {"norm": {}})["norm"][leaf.removeprefix("running_")] = value
    return stats


def nhwc(image):
    return jnp.asarray(image).transpose(0, 2, 3, 1)


@pytest.fixture
def same(torch_dcgan):
    """(model, networks with torch's weights, inputs, torch's arrays)."""
    real = nhwc(torch_dcgan["at/real"])
    model = tiny(image_shape=real.shape[1:])
    nets = {
        name: {"params": ported(torch_dcgan, name), "batch_stats": running(torch_dcgan, name)}
        for name in ("generator", "discriminator")
    }
    return model, nets, inputs(real), torch_dcgan


@pytest.fixture
def latents(monkeypatch, torch_dcgan):
    """Makes the model draw torch's latents."""
    monkeypatch.setattr(DCGAN, "_latents", lambda self, keys: jnp.asarray(torch_dcgan["at/z"]))


def test_parameters_have_the_structure_that_is_ported(same):
    model, nets, given, _ = same
    fresh = jax.eval_shape(model.init, KEY, given.batch)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, nets)


@pytest.mark.slow
def test_networks_equal_torch(same):
    model, nets, given, torch = same
    generate = jax.jit(lambda variables: model._generate(variables, torch["at/z"])[0])
    np.testing.assert_allclose(generate(nets["generator"]), nhwc(torch["at/fake"]), atol=2e-6)
    discriminate = jax.jit(lambda image: model._discriminate(nets["discriminator"], image)[0])
    np.testing.assert_allclose(discriminate(given.batch["image"]), torch["at/real_logits"], atol=5e-6)
    np.testing.assert_allclose(discriminate(nhwc(torch["at/fake"])), torch["at/fake_logits"], atol=5e-6)


@pytest.mark.slow
def test_generator_by_running_statistics_equals_torch(same):
    model, nets, _, torch = same
    variables = {**nets["generator"], "batch_stats": running(torch, "generator_after")}
    found = model.generator.apply(variables, torch["at/z"], model.image_shape, train=False)
    np.testing.assert_allclose(found, nhwc(torch["at/fake_by_running"]), atol=2e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("latents")
@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_losses_and_gradients_equal_torch(same, name):
    model, nets, given, torch = same
    (phase,) = [phase for phase in model.phases(None) if phase.trains == (name,)]

    def loss(params):
        return phase.loss({**nets, name: {**nets[name], "params": params}}, given)[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(nets[name]["params"])
    np.testing.assert_allclose(value, torch[f"{name}_loss"], rtol=1e-6)
    wanted = ported(torch, f"{name}_gradient")
    assert jax.tree.structure(gradient) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max() + 1e-7), gradient, wanted)


@pytest.mark.slow
@pytest.mark.usefixtures("latents")
@pytest.mark.parametrize(("name", "passes"), [("generator", 1), ("discriminator", 2)])
def test_running_statistics_equal_torch_but_for_bessels_correction(same, name, passes):
    model, nets, given, torch = same
    (phase,) = [phase for phase in model.phases(None) if phase.trains == (name,)]
    _, aux = jax.jit(phase.loss)(nets, given)
    assert set(aux.stats) == {name}
    kept = 0.9**passes
    wanted = running(torch, f"{name}_after")
    sides = spatial(name, model.image_shape[0])
    for layer, norm in aux.stats[name]["batch_stats"].items():
        n = len(given.keys) * sides[int(layer.removeprefix("BatchNorm_"))] ** 2
        np.testing.assert_allclose(norm["norm"]["mean"], wanted[layer]["norm"]["mean"], atol=2e-6)
        biased = kept + (wanted[layer]["norm"]["var"] - kept) * (n - 1) / n
        np.testing.assert_allclose(norm["norm"]["var"], biased, rtol=1e-5)


def spatial(name: str, side: int) -> list[int]:
    """The side of the image at each norm layer, in order."""
    halved = {32: [32, 16, 8, 4], 21: [21, 11, 6]}[side]
    return halved[:0:-1] if name == "generator" else halved[2:]


# --- sizes and initialisation ----------------------------------------------------------------------------------------


def test_published_parameter_counts():
    model = DCGAN()
    nets = jax.eval_shape(model.init, KEY, {"image": jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)})
    counts = {name: sum(math.prod(p.shape) for p in jax.tree.leaves(v["params"])) for name, v in nets.items()}
    assert counts == {"generator": 3_576_704, "discriminator": 2_765_568}  # pytorch/examples/dcgan


@pytest.mark.parametrize("side", [*range(32, 129, 19), 33, 64, 65, 127, 128])
def test_every_size(side):
    check_shapes((side, side, 3))


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (33, 70, 4)])
def test_small_images_and_rectangles(shape):
    check_shapes(shape)


def check_shapes(shape):
    """Shapes of samples, losses and statistics, without computing them."""
    model = tiny(image_shape=shape)
    batch = {"image": jax.ShapeDtypeStruct((2, *shape), jnp.float32)}
    nets = jax.eval_shape(model.init, KEY, batch)
    sample = jax.eval_shape(lambda nets, key: model.sample(nets, key, 2, {}), nets, KEY)
    assert (sample.shape, sample.dtype) == ((2, *shape), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(KEY, 2))
    for phase in model.phases(None):
        loss, aux = jax.eval_shape(phase.loss, nets, Inputs(batch, KEY, keys, jnp.int32(0), {}))
        assert (loss.shape, loss.dtype) == ((), jnp.float32)
        (name,) = aux.stats
        assert aux.stats[name] == {c: v for c, v in nets[name].items() if c != "params"}


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"7x64: height and width must be at least 8"):
        DCGAN(image_shape=(7, 64, 3))
    with pytest.raises(ValueError, match="latent_dim=0"):
        DCGAN(latent_dim=0)
    with pytest.raises(ValueError, match="32x32x1.*32x32x2"):
        tiny().init(KEY, {"image": jnp.zeros((2, 32, 32, 1))})


@pytest.mark.slow
def test_weights_start_as_in_the_paper():
    """N(0, 0.02) weights and N(1, 0.02) scales; the bounds are five standard errors and more."""
    model = DCGAN((32, 32, 3), Generator(32), Discriminator(32))
    nets = jax.jit(batch_draws(model.init))(KEY, {"image": jnp.zeros((2, 32, 32, 3))})
    leaves = jax.tree.leaves_with_path({name: nets[name]["params"] for name in nets})
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    kernels = jnp.concatenate([x.ravel() for name, x in named.items() if "kernel" in name])
    scales = jnp.concatenate([x for name, x in named.items() if "scale" in name])
    assert len(kernels) > 400_000 and len(scales) == (128 + 64 + 32) + (64 + 128)
    np.testing.assert_allclose([kernels.mean(), kernels.std()], [0, 0.02], atol=1.5e-4)
    np.testing.assert_allclose([scales.mean(), scales.std()], [1, 0.02], atol=5e-3)
    assert all(abs(x.std() / 0.02 - 1) < 0.1 for name, x in named.items() if "kernel" in name)
    assert all((x == 0).all() for name, x in named.items() if "bias" in name)


# --- phases ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_latents_follow_the_key_of_the_row():
    model = tiny()
    keys = jax.random.split(KEY, 4)
    np.testing.assert_array_equal(model._latents(keys)[2:], model._latents(keys[2:]))
    assert abs(model._latents(jax.random.split(KEY, 5000)).std() - 1) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("torch_dcgan", [21], indirect=True)
def test_real_and_generated_images_are_normalised_apart(same):
    """Logits of real images do not depend on what the generator makes."""
    model, nets, given, _ = same
    other = {**nets, "generator": jax.tree.map(lambda x: 3 * x, nets["generator"])}
    loss = jax.jit(model.discriminator_loss)
    one, two = loss(nets, given)[1].metrics, loss(other, given)[1].metrics
    assert one["real_logit"] == two["real_logit"]
    assert one["fake_logit"] != two["fake_logit"]


@pytest.mark.slow
@pytest.mark.parametrize("torch_dcgan", [21], indirect=True)
def test_sampling_reads_the_running_statistics(same):
    """An image does not depend on the others drawn with it, but on the statistics."""
    model, nets, _, torch = same
    sample = jax.jit(model.sample, static_argnums=2)
    found = sample(nets, KEY, 4, {})
    z = jax.random.normal(KEY, (4, model.latent_dim))
    alone = model.generator.apply(nets["generator"], z[:1], model.image_shape, train=False)
    np.testing.assert_allclose(found[:1], alone, atol=1e-6)
    nets["generator"]["batch_stats"] = running(torch, "generator_after")
    assert (sample(nets, KEY, 4, {}) != found).any()


@pytest.mark.slow
@pytest.mark.parametrize("torch_dcgan", [21], indirect=True)
@pytest.mark.parametrize(("name", "sign"), [("discriminator", 1), ("generator", -1)])
def test_a_gradient_step_moves_the_logits(same, name, sign):
    """The discriminator's raises real logits over generated ones; the generator's raises its own."""
    model, nets, given, _ = same
    (phase,) = [phase for phase in model.phases(None) if phase.trains == (name,)]

    def loss(params):
        value, aux = phase.loss({**nets, name: {**nets[name], "params": params}}, given)
        return value, aux.metrics

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (before, at_first), gradient = step(nets[name]["params"])
    (after, at_last), _ = step(jax.tree.map(lambda p, g: p - 0.01 * g, nets[name]["params"], gradient))
    assert after < before
    margins = [metrics.get("real_logit", 0.0) - metrics["fake_logit"] for metrics in (at_first, at_last)]
    assert sign * (margins[1] - margins[0]) > 0
