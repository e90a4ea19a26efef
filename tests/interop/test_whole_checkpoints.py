"""Checkpoints that hold a model and its first stage: latent diffusion's and taming's, beside the authors' classes."""

from __future__ import annotations

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np
import official
import pytest
from official import close, last
from saved_pipelines import draw

from imagegen_jax.interop.kinds import import_checkpoint
from imagegen_jax.interop.official.guided_diffusion import Layout
from imagegen_jax.interop.official.latent_diffusion import Options, schedule_of
from imagegen_jax.interop.official.latent_diffusion import heads_of as heads_of_unet
from imagegen_jax.interop.official.taming_transformer import heads_of
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.transformers.code_network import Codes
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

SCHEDULE = LinearSchedule(1000, 0.0015, 0.0195, power=2.0)
T, LABELS = np.float32([3, 40]), np.int32([4, 1])


def stored(root, name):
    with np.load(root / f"tests/reference/{name}.npz") as arrays:
        return dict(arrays)


def drawn(lines):
    """Tensors by the lines of a reference."""
    return {n: np.float32(drawn_weights.weight(n, *rest)) for n, *rest in map(official.parsed, lines.tolist())}


def stage(root, name):
    """The tensors of a first stage as a whole checkpoint has them."""
    return {
        f"first_stage_model.{n}": np.float32(x)
        for n, x in official.load(root / "tests/reference/vqgan.npz", name).weights.items()
    }


def saved(place, tensors):
    np.savez(place / "model.npz", **{f"state_dict/{name}": x for name, x in tensors.items()})
    return place / "model.npz"


def of_diffusion(root, name, first_stage, averaged):
    """Tensors of a whole checkpoint; where it has averages, the last weights are others."""
    found = drawn(stored(root, "latent_diffusion")[f"{name}/weights"])
    unet = {n.removeprefix("unet."): x for n, x in found.items() if n.startswith("unet.")}
    tensors = {f"model.diffusion_model.{n}": x + averaged for n, x in unet.items()} | stage(root, first_stage)
    if averaged:
        tensors |= {f"model_ema.diffusion_model{n.replace('.', '')}": x for n, x in unet.items()}
    if "embedding.weight" in found:
        tensors["cond_stage_model.embedding.weight"] = found["embedding.weight"]
    return tensors | {"betas": np.float32(SCHEDULE.betas), "scale_factor": np.float32(0.5)}


@pytest.fixture(scope="module")
def by_class(root, tmp_path_factory):
    place = tmp_path_factory.mktemp("by_class")
    file = saved(place, of_diffusion(root, "by_class", "vqgan_swapped", averaged=1.0))
    return import_checkpoint("latent-diffusion", file, place / "run", given=("size=8", "heads=2", "no_class=true"))


def network_of(run, labels):
    """What the network puts out for the reference's latents."""
    x = last(drawn_weights.normal("input latents", (2, 4, 4, 4))).astype(np.float32)
    apply = official.jit(run.experiment.model.network.apply)
    return np.asarray(apply(run.nets["network"], x, T, Conditioning(labels))).transpose(0, 3, 1, 2)


@pytest.mark.slow
def test_the_network_by_a_class_is_the_authors(by_class, root):
    """Averaged, though the file has the last weights too; the last of the classes stands for none."""
    model = by_class.experiment.model
    assert model.num_classes == 4 and model.label_dropout == 0.1 and model.levels.schedule == SCHEDULE
    labels = jax.nn.one_hot(LABELS, 4)
    close(network_of(by_class, labels), stored(root, "latent_diffusion")["by_class/y"])


@pytest.mark.slow
def test_the_network_without_a_condition_is_the_authors(plain, root):
    assert plain.experiment.model.space.scale == 0.5 and plain.experiment.model.num_classes == 0
    close(network_of(plain, None), stored(root, "latent_diffusion")["plain/y"])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("taming", "vqgan"), ("ldm", "kl")])
def test_first_stages_encode_and_decode_as_the_authors_do(kind, name, root, tmp_path):
    """Latents before they are quantised or drawn, and images of given latents, which are quantised first."""
    tensors = {
        n.removeprefix("first_stage_model."): x
        for n, x in stage(root, {"vqgan": "vqgan_swapped"}.get(name, name)).items()
    }
    run = import_checkpoint(kind, saved(tmp_path, tensors), tmp_path / "run", given=("size=8",))
    model, wanted = run.experiment.model, stored(root, "latent_diffusion")
    x = last(drawn_weights.normal("input x", (3, 3, 8, 8))).astype(np.float32)
    z = last(drawn_weights.normal("input z", (3, 4, 4, 4))).astype(np.float32)

    def both(network):
        if name == "kl":
            return network.pre(network.encoder(x)), network.decode(z, 3)
        return network.vectors(x), network.decode_vectors(network.quantiser(z).vectors, 3)

    network = run.nets["tokenizer" if name == "vqgan" else "autoencoder"]
    encoded, decoded = official.jit(lambda nets: model.network.apply(nets, method=both))(network)
    close(np.asarray(encoded).transpose(0, 3, 1, 2), wanted[f"{name}/encoded"])
    close(np.asarray(decoded).transpose(0, 3, 1, 2), wanted[f"{name}/decoded"])


@pytest.fixture(scope="module")
def plain(root, tmp_path_factory):
    place = tmp_path_factory.mktemp("plain")
    file = saved(place, of_diffusion(root, "plain", "kl", averaged=0.0))
    return import_checkpoint("latent-diffusion", file, place / "run", given=("size=8",))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["by_class", "plain"])
def test_images_of_latent_diffusion_are_those_of_the_authors_sampler(name, request, root):
    """Of 5 steps of DDIM from given latents; by a class, guided away from none, their quantised latents decoded."""
    run, latents = request.getfixturevalue(name), drawn_weights.normal("input latents", (2, 4, 4, 4))
    told = {"label": np.int32([3, 1]), "guidance": np.float32(3)} if name == "by_class" else {}
    images = draw(run, np.float32(latents), told, steps=5)
    close(images.transpose(0, 3, 1, 2), stored(root, "latent_diffusion")[f"{name}/images"].clip(-1, 1))


@pytest.mark.slow
def test_a_run_of_latent_diffusion_draws_by_class_away_from_none(by_class):
    """As shapes alone: nothing is compiled."""
    model, conditions = by_class.experiment.model, {"label": LABELS % 4, "guidance": np.float32(2)}
    model.check_conditions(conditions)
    found = jax.eval_shape(lambda nets: model.sample(nets, jax.random.key(0), 2, conditions), by_class.nets)
    assert found.shape == (2, 8, 8, 3)


def of_taming(root):
    """Tensors of a second stage of 13 codes in 3x3 places."""
    found = stored(root, "priors")
    tensors = {f"transformer.{n}": x for n, x in drawn(found["taming/weights"]).items()} | stage(root, "vqgan")
    tensors |= {f"transformer.blocks.{i}.attn.mask": np.ones((1, 1, 9, 9), np.float32) for i in range(2)}
    name = "quantize.embedding.weight"
    tensors[f"first_stage_model.{name}"] = np.float32(drawn_weights.weight(name, (13, 4), 0.5))
    return tensors, found


@pytest.mark.slow
def test_a_second_stage_has_the_authors_logits_and_draws_their_images(root, tmp_path):
    tensors, found = of_taming(root)
    options = ("size=6", "heads=3", "classes=5")
    run = import_checkpoint("taming-transformer", saved(tmp_path, tensors), tmp_path / "run", given=options)
    model, codes = run.experiment.model, jnp.asarray(found["codes"], jnp.int32)
    assert model.tokenizer.code_shape == (3, 3) and model.num_classes == 5
    told = Conditioning(jax.nn.one_hot(found["labels"], 5))
    logits = official.jit(lambda nets, x: model.network.apply(nets, x, Codes(13, (3, 3)), told))
    close(logits(run.nets["prior"], codes[:, :-1]), found["taming/logits"])
    wanted, told = stored(root, "latent_diffusion"), {"label": jnp.asarray(found["labels"]), "top_k": jnp.int32(1)}

    @official.jit
    def drawn_codes(nets):
        likeliest = model.sample_codes(nets, jax.random.key(0), 3, told)
        return likeliest, model.tokenizer.decode(nets, likeliest)

    likeliest, images = drawn_codes(run.nets)
    np.testing.assert_array_equal(np.reshape(likeliest, (3, -1)), wanted["taming/codes"])
    close(np.asarray(images).transpose(0, 3, 1, 2), wanted["taming/images"].clip(-1, 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cond_stage_model.quantize.embedding.weight": 3}, "only second stages by a class or without a condition"),
        ({"transformer.pos_emb": (1, 18, 24)}, "sequences of 18 codes out of 13, .* has 9 out of 13: .* --set size="),
    ],
)
def test_second_stages_by_an_image_are_refused(change, said, root, tmp_path):
    tensors, _ = of_taming(root)
    tensors |= {name: np.zeros(shape, np.float32) for name, shape in change.items()}
    with pytest.raises(ValueError, match=said):
        import_checkpoint("taming-transformer", saved(tmp_path, tensors), tmp_path / "run", given=("size=6",))


def test_heads_of_a_second_stage_are_those_of_its_width(root, tmp_path):
    """The network of faces has heads of 104 channels, the others of 64; one of another width is not guessed."""
    assert [heads_of(width, "here") for width in (1024, 1536, 1664)] == [16, 24, 16]
    with pytest.raises(ValueError, match="width 24 is none of the published ones, .* --set heads=16"):
        import_checkpoint(
            "taming-transformer", saved(tmp_path, of_taming(root)[0]), tmp_path / "run", given=("size=6",)
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cond_stage_model.transformer.a": np.zeros(3)}, "those by a text from a folder that diffusers saved"),
        ({"betas": np.linspace(1e-4, 0.02, 1000)}, "its betas are not those of latent diffusion's"),
        ({"model.diffusion_model.out.2.weight": np.zeros((3, 128, 3, 3))}, "puts out 3, .* no inpainting"),
    ],
)
def test_other_models_of_latents_are_refused(change, said, root, tmp_path):
    tensors = of_diffusion(root, "by_class", "vqgan", averaged=0.0)
    tensors |= {name: np.float32(x) for name, x in change.items()}
    with pytest.raises(ValueError, match=said):
        import_checkpoint("latent-diffusion", saved(tmp_path, tensors), tmp_path / "run", given=("size=8",))


@pytest.mark.parametrize(
    ("width", "multipliers", "given", "wanted"),
    [
        (192, (1, 2, 2, 4, 4), {}, (8, None)),  # LSUN Churches
        (192, (1, 2, 3, 5), {}, (1, None)),  # ImageNet, LDM-4
        (256, (1, 2, 4), {}, (1, 32)),  # ImageNet, LDM-8
        (224, (1, 2, 3, 4), {}, (1, 32)),  # faces, and LSUN Bedrooms
        (192, (1, 2, 3, 5), {"head_channels": 64}, (1, 64)),
        (192, (1, 2, 2, 4, 4), {"heads": 4}, (4, None)),
    ],
)
def test_heads_of_latent_diffusion_are_those_of_the_published_network(width, multipliers, given, wanted):
    layout = Layout(width, multipliers, 2, (True,) * len(multipliers), by_blocks=False)
    assert heads_of_unet(layout, Options(**given)) == wanted


def test_a_schedule_is_found_by_its_ends():
    assert schedule_of(np.float32(SCHEDULE.betas), "here") == SCHEDULE
