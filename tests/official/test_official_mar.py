"""MAR against the authors' code: transformer, diffusion loss, sampling of tokens, and the loop over passes."""

from __future__ import annotations

import dataclasses

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np
import official
import pytest
from toys import Halved

from imagegen_jax.autoregressive.mar import MAR
from imagegen_jax.autoregressive.token_diffusion import TokenDiffusion
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.transformers.mae import MaskedAutoencoder
from imagegen_jax.nn.backbones.transformers.token_denoiser import TokenDenoiser

SIDE, CHANNELS, WIDTH, NOISES, STEPS = 3, 4, 24, 2, 5
LENGTH, SHAPE = SIDE**2, (SIDE, SIDE, CHANNELS)
NETWORK = MaskedAutoencoder(2, WIDTH, 3, buffer=4, dtype="float32")
DIFFUSION = TokenDiffusion(TokenDenoiser(2, 20, "float32"), noises=NOISES, steps=STEPS)


@pytest.fixture(scope="module")
def theirs(root):
    """What their code gave, by name."""
    with np.load(root / "tests/reference/official_mar.npz") as arrays:
        return dict(arrays)


def transformer_names() -> official.Names:
    """Of two blocks on either side; the table of classes apart."""
    found = {
        "params/mask": ("mask_token", lambda w: w[0]),
        "params/position": ("diffusion_pos_embed_learned", squeezed),
    }
    found |= official.layer("input", "z_proj", official.linear) | official.norm("norm_in", "z_proj_ln")
    found |= official.layer("middle", "decoder_embed", official.linear)
    parts = {"attention/qkv": "attn.qkv", "attention/out": "attn.proj", "mlp_0": "mlp.fc1", "mlp_1": "mlp.fc2"}
    for side in ("encoder", "decoder"):
        found[f"params/{side}_position"] = (f"{side}_pos_embed_learned", squeezed)
        found |= official.norm(f"{side}_norm", f"{side}_norm")
        for i in range(2):
            ours, block = f"{side}_{i}", f"{side}_blocks.{i}"
            found |= official.norm(f"{ours}/norm_0", f"{block}.norm1") | official.norm(
                f"{ours}/norm_1", f"{block}.norm2"
            )
            for mine, name in parts.items():
                found |= official.layer(f"{ours}/{mine}", f"{block}.{name}", official.linear)
    return found


def denoiser_names() -> official.Names:
    """Of two blocks."""
    found = official.layer("time_0", "diffloss.net.time_embed.mlp.0", official.sines_first)
    layers = {
        "input": "input_proj", "time_1": "time_embed.mlp.2", "condition": "cond_embed", "out": "final_layer.linear",
        "modulation": "final_layer.adaLN_modulation.1",
    }  # fmt: skip
    for i in range(2):
        block = f"res_blocks.{i}"
        layers |= {f"block_{i}/mlp_0": f"{block}.mlp.0", f"block_{i}/mlp_1": f"{block}.mlp.2"}
        layers[f"block_{i}/modulation"] = f"{block}.adaLN_modulation.1"
        found |= official.norm(f"block_{i}/norm", f"diffloss.net.{block}.in_ln")
    for ours, name in layers.items():
        found |= official.layer(ours, f"diffloss.net.{name}", official.linear)
    return found


def squeezed(weight):
    return weight[0]


@pytest.fixture(scope="module")
def nets(theirs):
    """Ours with their weights."""
    lines = map(official.parsed, theirs["weights"])
    weights = {name: drawn_weights.weight(name, *rest).astype(np.float32) for name, *rest in lines}
    table = np.concatenate([weights.pop("class_emb.weight"), weights.pop("fake_latent")])
    of_denoiser = {name: weights.pop(name) for name in list(weights) if name.startswith("diffloss")}
    prior = official.renamed(transformer_names(), weights)
    return {
        "autoencoder": {"params": {"scale": jnp.float32(1)}},
        "prior": {"params": {**prior["params"], "class": table}},
        "denoiser": official.renamed(denoiser_names(), of_denoiser),
    }


def given(name, *shape):
    """An input of theirs."""
    return jnp.float32(drawn_weights.normal(f"input {name}", shape))


def near(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.slow
def test_the_transformer_is_the_authors(theirs, nets):
    """With room for as many known tokens as there are, and for all; the last row is without a class."""
    labels = jax.nn.one_hot(jnp.array([2, 0, -1]), 3)

    @official.jit
    def both(variables, tokens):
        return [NETWORK.apply(variables, tokens, theirs["masked"], Conditioning(labels), room) for room in (4, None)]

    for found in both(nets["prior"], given("tokens", 3, LENGTH, CHANNELS)):
        near(found, theirs["z"])


@pytest.mark.slow
def test_the_diffusion_loss_is_the_authors(theirs, nets):
    tokens, z = given("tokens", 3, LENGTH, CHANNELS), given("z", 3, LENGTH, WIDTH)
    epsilon = given("epsilon", 3, NOISES, LENGTH, CHANNELS)
    squares, bits = official.jit(DIFFUSION.losses_at)(nets["denoiser"], z, tokens, theirs["t"], epsilon)
    near(squares, theirs["mse"].mean(axis=1))
    near(bits, theirs["vb"].mean(axis=1))


@pytest.mark.slow
def test_tokens_are_drawn_as_by_the_authors(theirs, nets):
    """Guided, with less noise on the way."""
    z, noises = given("z of sampling", 4, LENGTH, WIDTH), given("noises", STEPS + 1, 2, LENGTH, CHANNELS)
    noises = noises.at[:-1].multiply(float(theirs["large"]))
    cfg, temperature = (jnp.float32(theirs[name]) for name in ("cfg", "temperature"))

    @official.jit
    def drawn(variables, z):
        return DIFFUSION.draw(variables, z, lambda i: noises[i], cfg, temperature)

    near(drawn(nets["denoiser"], z), theirs["sampled"])


@dataclasses.dataclass(frozen=True)
class Rule:
    """In place of a diffusion model: the first values of z, guided."""

    def draw(self, variables, z, noise, guidance, temperature):
        conditional, free = jnp.split(z[..., :CHANNELS], 2)
        return free + guidance * (conditional - free)


@pytest.mark.slow
def test_passes_are_the_authors(theirs, nets):
    """Which tokens are drawn in which pass, what it sees of the others, and how the guidance grows."""
    model = MAR(Halved(SHAPE, SHAPE), NETWORK, Rule(), num_classes=3, steps=int(theirs["steps"]))
    told = {"label": jnp.array([1, 2]), "guidance": jnp.float32(theirs["cfg"])}
    found = official.jit(model.draw_in_order)(nets, jax.random.key(0), theirs["order"], told)
    near(found, theirs["passed"].transpose(0, 2, 3, 1).reshape(2, LENGTH, CHANNELS))
