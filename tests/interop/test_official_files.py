"""Checkpoints that the authors' classes wrote: after import the same outputs, in a run that samples."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import official
import pytest

from imagegen_jax.diffusion.process.denoiser import c_noise
from imagegen_jax.interop.kinds import import_checkpoint
from imagegen_jax.interop.official.guided_diffusion import PRESETS, Layout
from imagegen_jax.interop.official.guided_diffusion_classifier import layout_of
from imagegen_jax.nn.backbones.conditioning import Conditioning

LABELS = jnp.array([2, 0])


@pytest.fixture(scope="module")
def reference(root):
    with np.load(root / "tests/reference/official_files.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def imported(reference, tmp_path_factory):
    """A function that imports one of the files, once, and returns the run and what the authors' classes gave."""

    @functools.cache
    def found(kind, name):
        place = tmp_path_factory.mktemp(name)
        values = {key.removeprefix(f"{name}/"): x for key, x in reference.items() if key.startswith(f"{name}/")}
        (place / "network.pkl").write_bytes(values.pop("file").tobytes())
        return import_checkpoint(kind, place / "network.pkl", place / "run"), values

    return found


def near(found, wanted, relative=1e-5):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=relative * np.abs(wanted).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stylegan2_classes", "stylegan2_plain"])
def test_a_stylegan2_makes_the_same_images_and_logits(imported, name):
    run, wanted = imported("stylegan2-ada", name)
    model, nets = run.experiment.model, run.nets
    label = LABELS if model.num_classes else None

    @official.jit
    def images(nets, z):
        return model.synthesise(nets, model.styles(nets, z, label, 0.7))

    near(images(nets, wanted["z"]), official.last(wanted["images"]))
    labels = jax.nn.one_hot(LABELS, 3) if model.num_classes else None
    judge = official.jit(model.discriminator.apply)
    params = {"params": nets["discriminator"]["params"]}
    near(judge(params, official.last(wanted["judged"]), labels), wanted["logits"][:, 0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("edm", "edm_ddpmpp"),
        ("edm", "edm_ncsnpp"),
        ("edm", "edm_adm"),
        ("edm2", "edm2_pixels"),
        ("edm2", "edm2_latents"),
    ],
)
def test_a_denoiser_makes_the_same_estimates(imported, kind, name):
    run, wanted = imported(kind, name)
    model, nets = run.experiment.model, run.nets
    conditions = {"label": LABELS} if model.num_classes else {}

    @official.jit
    def denoised(nets, x, sigma):
        return model.denoiser(nets, conditions)(x, sigma)

    near(denoised(nets, official.last(wanted["x"]), wanted["sigma"]), official.last(wanted["denoised"]))
    if "logvar" in wanted:
        near(model.uncertainty.apply(nets["uncertainty"], c_noise(wanted["sigma"])), wanted["logvar"])


# --- bare state dicts, whose weights follow from their names ---------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(root, tmp_path_factory):
    """A function that writes cases of tests/official as files, imports them, and returns the run and the cases."""

    @functools.cache
    def found(kind, file, parts, *options):
        """`parts` are pairs: a case, and what its names begin with in the file."""
        place, cases = tmp_path_factory.mktemp(kind), {}
        arrays = {}
        for name, beginning in parts:
            cases[name] = official.load(root / f"tests/reference/{file}.npz", name)
            arrays |= {beginning + key: np.asarray(x, np.float32) for key, x in cases[name].weights.items()}
            if kind == "dit":
                arrays[f"{beginning}pos_embed"] = np.zeros((1, 16, 24), np.float32)  # computed, here and there
        np.savez(place / "weights.npz", **arrays)
        run = import_checkpoint(kind, place / "weights.npz", place / "run", given=options)
        return run, cases

    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("unet", ("size=8", "new_order=false")), ("improved", ("size=8", "head_channels=0", "heads=2"))],
)
def test_adm_and_improved_ddpm_give_the_same_outputs(drawn, name, options):
    run, cases = drawn("guided-diffusion", "official_adm", ((name, ""),), *options)
    check_denoiser(run, cases[name], "y", "timesteps")


@pytest.mark.slow
def test_a_classifier_of_noisy_images_gives_the_same_logits(drawn):
    """At times as the authors count them; the size of images follows from the file."""
    run, cases = drawn("guided-diffusion-classifier", "official_adm", (("classifier", ""),))
    case, model = cases["classifier"], run.experiment.model
    assert model.image_shape == (8, 8, 3) and model.num_classes == 5 and model.network.multipliers == (1, 1.5)
    logits = official.jit(model.network.apply)
    near(logits(run.nets["network"], official.last(case.inputs["x"]), case.inputs["timesteps"]), case.output)


def layers_of(multipliers, blocks, side, halves="out_layers.3"):
    """The tensors of a classifier that tell its layers, without their inputs."""
    found = {"time_embed.0.weight": np.empty((0, 128)), "out.2.positional_embedding": np.empty((0, 65))}
    found["input_blocks.0.0.weight"], at = np.empty((128, 0)), 1
    for level, multiplier in enumerate(multipliers):
        for i in range(blocks + (level + 1 < len(multipliers))):
            inside = "out_layers.3" if i < blocks else halves
            found[f"input_blocks.{at}.0.{inside}.weight"] = np.empty((int(128 * multiplier), 0))
            if i < blocks and side >> level in (8, 16, 32):
                found[f"input_blocks.{at}.1.norm.weight"] = np.empty(0)
            at += 1
    return found


@pytest.mark.parametrize(("side", "blocks"), [(64, 4), (128, 2), (256, 2), (512, 2)])
def test_published_classifiers_are_known_by_their_layers(side, blocks):
    """Of 64x64 a classifier has as many modules, and widths, as one of 128x128 with three blocks a level."""
    multipliers = next(levels for levels, preset in PRESETS.items() if preset.size == side)
    attends = tuple(side >> level in (8, 16, 32) for level in range(len(multipliers)))
    wanted = Layout(128, multipliers, blocks, attends, True), side
    assert layout_of(layers_of(multipliers, blocks, side), "here", 0) == wanted
    assert layout_of(layers_of(multipliers, blocks, side, "op"), "here", 0) == (
        wanted[0]._replace(by_blocks=False),
        side,
    )


def test_widths_alone_may_tell_which_layers_halve():
    found, side = layout_of(layers_of((1, 2), 2, 100), "here", 0)
    assert (found.blocks, found.multipliers, side) == (2, (1, 2), 16)


def test_a_classifier_of_several_possible_sizes_asks_for_it():
    """Of eight modules of one width, nobody can tell which of them halve."""
    tensors = layers_of((1, 1), 3, 100)
    for asked in (0, 7):
        with pytest.raises(ValueError, match=f"size=8 or 16 or 64, not {asked}: --set size=8"):
            layout_of(tensors, "here", asked)
    found, side = layout_of(tensors, "here", 16)
    assert (found.blocks, found.multipliers, side) == (3, (1, 1), 16)


@pytest.mark.slow
def test_a_dit_gives_the_same_outputs(drawn):
    """From a training's file, which holds averages beside the last weights; the last row's label is dropped."""
    run, cases = drawn("dit", "official_dit", (("dit", "ema/"), ("dit", "model/")), "heads=3")
    check_denoiser(run, cases["dit"], "y", "t")
    assert run.experiment.model.num_classes == 3


def check_denoiser(run, case, labels, times):
    model, t = run.experiment.model, np.asarray(case.inputs[times])
    told = (
        Conditioning(jax.nn.one_hot(case.inputs[labels], model.num_classes))
        if labels in case.inputs
        else Conditioning()
    )
    out = official.jit(model.network.apply)(run.nets["network"], official.last(case.inputs[case.first]), t, told)
    near(out, official.last(case.output))


@pytest.mark.slow
def test_r3gan_gives_the_same_images_and_logits(drawn):
    parts = (("generator", "G_ema/Model."), ("discriminator", "D/Model."))
    run, cases = drawn("r3gan", "official_r3gan", parts)
    model, nets, made, judged = run.experiment.model, run.nets, cases["generator"], cases["discriminator"]
    label = jnp.argmax(made.inputs["y"], axis=1)

    @official.jit
    def both(nets, z, x):
        images = model.generator.apply(nets["generator"], z, label, model.num_classes, 3)
        return images, model.discriminator.apply(nets["discriminator"], x, label, model.num_classes)

    images, logits = both(nets, made.inputs["x"], official.last(judged.inputs["x"]))
    near(images, official.last(made.output))
    near(logits, judged.output)


@pytest.mark.slow
def test_a_biggan_makes_the_same_images(drawn):
    """By running statistics; the discriminator is a fresh one."""
    run, cases = drawn("biggan", "official_biggan", (("generator", ""),))
    case, model = cases["generator"], run.experiment.model
    images = official.jit(model.generate)(run.nets, case.inputs[case.first], {"label": case.inputs["y"]})
    near(images, official.last(case.output))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("taming", "vqgan"), ("ldm", "vqgan"), ("ldm", "kl")])
def test_an_autoencoder_has_the_weights_of_the_authors(drawn, kind, name):
    """Their loss at these weights is compared in tests/official."""
    run, cases = drawn(kind, "vqgan", ((name, "state_dict/"),), "size=8")
    weights, nets = cases[name].weights, run.nets
    network = nets["tokenizer" if name == "vqgan" else "autoencoder"]["params"]
    near(
        network["encoder"]["down_1_0"]["conv_1"]["kernel"],
        official.kernel(weights["encoder.down.1.block.0.conv1.weight"]),
    )
    near(network["post"]["kernel"], official.kernel(weights["post_quant_conv.weight"]))
    judge = nets["discriminator"]
    near(judge["batch_stats"]["BatchNorm_0"]["norm"]["var"], weights["loss.discriminator.main.3.running_var"])
    if name == "vqgan":
        near(network["quantiser"]["embedding"], weights["quantize.embedding.weight"])
