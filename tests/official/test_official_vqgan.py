"""VQGAN, the KL autoencoder and their losses against the authors' classes and diffusers', at random weights."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import official
import pytest

import imagegen_jax.autoencoders.kl
from imagegen_jax.autoencoders.adversary import Adversary, Likeness
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.autoencoders.vqgan import VQGAN
from imagegen_jax.core.model import Inputs
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.patch import PatchDiscriminator

pytestmark = pytest.mark.slow

CODES, DIM, Z, SIDE = 8, 4, 6, 8
NEAR = 1e-5


class Square:
    """In the place of LPIPS, as in the reference."""

    def init_weights(self, key, image):
        return {}

    def distances(self, variables, a, b):
        return jnp.mean((a - b) ** 2, axis=(1, 2, 3))


def networks(multipliers=(1, 2), levels=(1,), features=Z):
    same = {"width": 16, "multipliers": multipliers, "blocks": 1, "attention_levels": levels, "dtype": "float64"}
    return ConvEncoder(**same, features=features), ConvDecoder(**same)


# --- names -----------------------------------------------------------------------------------------------------------


def resnet(ours: str, theirs: str, shortcut: str) -> official.Names:
    found = official.norm(f"{ours}/norm_1", f"{theirs}.norm1") | official.layer(f"{ours}/conv_1", f"{theirs}.conv1")
    found |= official.norm(f"{ours}/norm_2", f"{theirs}.norm2") | official.layer(f"{ours}/conv_2", f"{theirs}.conv2")
    return found | official.layer(f"{ours}/shortcut", f"{theirs}.{shortcut}", official.linear)


def attention(ours: str, theirs: str, words: tuple[str, ...]) -> official.Names:
    """`words` are what the norm and the layers are called there."""
    found = official.norm(f"{ours}/norm", f"{theirs}.{words[0]}")
    for name, word in zip(("query", "key", "value", "out"), words[1:], strict=True):
        found |= official.layer(f"{ours}/{name}", f"{theirs}.{word}", official.linear)
    return found


def taming_names() -> official.Names:
    words, found = ("norm", "q", "k", "v", "proj_out"), {}
    for half, way, blocks, change in (("encoder", "down", 1, "downsample"), ("decoder", "up", 2, "upsample")):
        for level in range(2):
            for i in range(blocks):
                ours, theirs = f"{half}/{way}_{level}_{i}", f"{half}.{way}.{level}"
                found |= resnet(ours, f"{theirs}.block.{i}", "nin_shortcut")
                found |= attention(f"{ours}_attention", f"{theirs}.attn.{i}", words)
            found |= official.layer(f"{half}/{way}_{level}", f"{half}.{way}.{level}.{change}.conv")
        for i in range(2):
            found |= resnet(f"{half}/middle_{i}", f"{half}.mid.block_{i + 1}", "nin_shortcut")
        found |= attention(f"{half}/middle_attention_0", f"{half}.mid.attn_1", words)
        found |= official.norm(f"{half}/norm_out", f"{half}.norm_out")
    return found | ends()


def diffusers_names() -> official.Names:
    words, found = ("group_norm", "to_q", "to_k", "to_v", "to_out.0"), {}
    for half, way, blocks, change in (("encoder", "down", 1, "downsamplers"), ("decoder", "up", 2, "upsamplers")):
        for level in range(2):
            theirs = f"{half}.{way}_blocks.{level if way == 'down' else 1 - level}"
            for i in range(blocks):
                found |= resnet(f"{half}/{way}_{level}_{i}", f"{theirs}.resnets.{i}", "conv_shortcut")
            found |= official.layer(f"{half}/{way}_{level}", f"{theirs}.{change}.0.conv")
        for i in range(2):
            found |= resnet(f"{half}/middle_{i}", f"{half}.mid_block.resnets.{i}", "conv_shortcut")
        found |= attention(f"{half}/middle_attention_0", f"{half}.mid_block.attentions.0", words)
        found |= official.norm(f"{half}/norm_out", f"{half}.conv_norm_out")
    return found | ends()


def ends() -> official.Names:
    found = official.layer("pre", "quant_conv") | official.layer("post", "post_quant_conv")
    for half in ("encoder", "decoder"):
        found |= official.layer(f"{half}/conv_in", f"{half}.conv_in")
        found |= official.layer(f"{half}/conv_out", f"{half}.conv_out")
    found["params/quantiser/embedding"] = ("quantize.embedding.weight", official.same)
    found["params/log_variance"] = ("loss.logvar", official.same)
    return found | discriminator_names("discriminator/params", "loss.discriminator.main", 1)


def discriminator_names(ours: str, theirs: str, halvings: int) -> official.Names:
    """Of the layers in their order; the first and the last have a bias and no norm."""
    found, statistics = {}, ours.replace("params", "batch_stats")
    for layer in range(halvings + 2):
        at = 0 if layer == 0 else 3 * layer - 1
        found[f"{ours}/Conv_{layer}/kernel"] = (f"{theirs}.{at}.weight", official.kernel)
        found[f"{ours}/Conv_{layer}/bias"] = (f"{theirs}.{at}.bias", official.same)
        norm = f"BatchNorm_{layer - 1}/norm"
        found[f"{ours}/{norm}/scale"] = (f"{theirs}.{at + 1}.weight", official.same)
        found[f"{ours}/{norm}/bias"] = (f"{theirs}.{at + 1}.bias", official.same)
        found[f"{statistics}/{norm}/mean"] = (f"{theirs}.{at + 1}.running_mean", official.same)
        found[f"{statistics}/{norm}/var"] = (f"{theirs}.{at + 1}.running_var", official.same)
    return found


def there(names: official.Names, case: official.Case) -> official.Names:
    """Those that this network of theirs has."""
    return {ours: (theirs, form) for ours, (theirs, form) in names.items() if theirs in case.weights}


@pytest.fixture
def load(root):
    """Reads a case, without torch's count of batches.

    A bias of keys has no gradient, since it adds the same to all logits of a query; what rounding leaves of it, the
    softmax being in float32, is compared with the gradient of the queries' bias.
    """

    def read(name: str) -> official.Case:
        case = official.load(str(root / "tests/reference/vqgan.npz"), name)
        weights = {n: w for n, w in case.weights.items() if not n.endswith("num_batches_tracked")}
        gradients = dict(case.gradients)
        for key, query in ((".k.bias", ".q.bias"), (".to_k.bias", ".to_q.bias")):
            for n in (n for n in case.gradients if n.endswith(key)):
                gradients[n] = gradients[n]._replace(length=gradients[n.replace(key, query)].length)
        return case._replace(weights=weights, gradients=gradients)

    return read


# --- losses ----------------------------------------------------------------------------------------------------------


def adversary(width: int, weight: float) -> Adversary:
    return Adversary(PatchDiscriminator(width, 1, dtype="float64"), weight=weight)


def inputs(x) -> Inputs:
    return Inputs({"image": official.last(x)}, jnp.zeros(2), jnp.zeros(len(x)), jnp.int32(9), {})


@pytest.mark.parametrize("name, swapped", [("vqgan", False), ("vqgan_swapped", True)])
def test_vqgan_has_the_authors_loss(load, name, swapped):
    """With the book's gradient, and beta on either side."""
    case = load(name)
    encoder, decoder = networks()
    network = Tokenizer(encoder, Codebook(CODES, DIM, 0.25, swapped), decoder, Z, dtype="float64")
    model = VQGAN((SIDE, SIDE, 3), network, Likeness(perceptual=Square()), adversary(8, 0.8))
    book = {"use": {"unchosen_images": jnp.zeros((1, CODES), jnp.int32)}}

    def apply(variables, x):
        nets = {**variables, "tokenizer": {"params": variables["params"], "codebook": book}, "perceptual": {}}
        loss, aux = model.autoencoder_loss(True, nets, inputs(x))
        return loss[None], aux.metrics["adaptive_weight"]

    names = there(taming_names(), case)
    adaptive = official.check(case, names, official.renamed(names, case.weights), apply, NEAR)
    np.testing.assert_allclose(0.8 * adaptive, case.after["adaptive_weight"], rtol=NEAR)


def test_the_kl_autoencoder_has_the_authors_loss(load, monkeypatch):
    """With the gradient of the learned log-variance, at a draw of the latents that is given."""
    case = load("kl")
    noise = official.last(jnp.asarray(case.inputs["noise"]))
    monkeypatch.setattr(imagegen_jax.autoencoders.kl, "normal_rows", lambda keys, shape: noise)
    encoder, decoder = networks(features=2 * Z)
    model = AutoencoderKL(
        (SIDE, SIDE, 3),
        KLNetwork(encoder, decoder, DIM, dtype="float64"),
        Likeness(perceptual=Square()),
        adversary(64, 0.5),
        kl_weight=0.01,
    )

    def apply(variables, x):
        params = dict(variables["params"])
        likelihood = {"params": {"log_variance": params.pop("log_variance")}}
        nets = {**variables, "autoencoder": {"params": params}, "likelihood": likelihood, "perceptual": {}}
        loss, aux = model.autoencoder_loss(True, nets, inputs(x))
        return loss[None], aux.metrics["adaptive_weight"]

    names = there(taming_names(), case)
    adaptive = official.check(case, names, official.renamed(names, case.weights), apply, NEAR)
    np.testing.assert_allclose(0.5 * adaptive, case.after["adaptive_weight"], rtol=NEAR)


def test_the_discriminator_has_the_authors_loss(load):
    case = load("discriminator")
    judge = Adversary(PatchDiscriminator(8, 3, dtype="float64"))
    real = official.last(jnp.asarray(case.inputs["real"]))

    def apply(variables, x):
        loss, _ = judge.loss({"discriminator": variables}, real, official.last(x))
        return loss[None], None

    names = there(discriminator_names("params", "main", 3), case)
    official.check(case, names, official.renamed(names, case.weights), apply, NEAR)


# --- diffusers -------------------------------------------------------------------------------------------------------


def test_a_tokenizer_is_diffusers_vq_model(load):
    case = load("diffusers_vq")
    encoder, decoder = networks((1, 1), ())
    network = Tokenizer(encoder, Codebook(CODES, DIM), decoder, Z, dtype="float64")
    names = there(diffusers_names(), case)
    book = names.pop("params/quantiser/embedding")[0]
    kept = jnp.asarray(case.weights[book])
    case = case._replace(weights={n: w for n, w in case.weights.items() if n != book})

    def apply(variables, x):
        params = {**variables["params"], "quantiser": {"embedding": kept}}
        return official.first(network.apply({"params": params}, official.last(x))[0]), None

    official.check(case, names, official.renamed(names, case.weights), apply, NEAR)


@pytest.mark.parametrize("name, pointwise", [("diffusers_kl", True), ("diffusers_bare_kl", False)])
def test_the_network_is_diffusers_autoencoder_kl(load, name, pointwise):
    case = load(name)
    noise = official.last(jnp.asarray(case.inputs["noise"]))
    encoder, decoder = networks((1, 1), (), features=2 * DIM)
    network = KLNetwork(encoder, decoder, DIM, pointwise, dtype="float64")

    def apply(variables, x):
        mu, log_var = network.apply(variables, official.last(x), method="encode")
        z = mu + jnp.exp(log_var / 2) * noise
        return official.first(network.apply(variables, z, 3, method="decode")), None

    names = there(diffusers_names(), case)
    official.check(case, names, official.renamed(names, case.weights), apply, NEAR)
