"""`imagegen export --to diffusers` of a run of texts: what diffusers itself saved, and back.

Called with a folder, this file writes the exports from which tests/reference/check_exported_pipelines.py draws.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import tempfile
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from saved_pipelines import add_byte_pairs, draw, with_tokenizers, written

from imagegen_jax import cli
from imagegen_jax.core.arrays.lora import LoRA, adapted
from imagegen_jax.core.arrays.space import Pixels
from imagegen_jax.core.state import create
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.weighting import MinSNR
from imagegen_jax.diffusion.sampling.heun import Heun
from imagegen_jax.diffusion.sampling.levels import Listed, ShiftedFlow
from imagegen_jax.interop.diffusers_folder import import_diffusers
from imagegen_jax.interop.exports.designs import DESIGNS
from imagegen_jax.interop.exports.export import export_run
from imagegen_jax.interop.exports.pipelines import configurations, export_pipeline
from imagegen_jax.interop.exports.schedulers import latent_scheduler_of
from imagegen_jax.interop.name_map import as_published
from imagegen_jax.interop.names.autoencoders import autoencoder
from imagegen_jax.interop.names.transformers import PLACES
from imagegen_jax.interop.pipelines.stable_diffusion import model_of
from imagegen_jax.nn.text_encoders.small import TextTransformer
from imagegen_jax.text.byte_pairs import BytePairs
from imagegen_jax.text.sentence_pieces import SentencePieces

CASES = {"pipelines": ("sd1", "sd2"), "more_pipelines": ("sdxl", "sd3", "sd3_without_t5", "pixart")}
# Of how to load it, of other uses, or said otherwise: what the export names that diffusers does not, or not so.
LEFT_OUT = {"do_lower_case", "pad_token_id", "projection_dim", "transformer_layers_per_block", "interpolation_scale"}
LEFT_OUT |= {"use_additional_conditions", "tokenizer_class", "pad_token", "unk_token", "layer_norm_eps"}


def imported(root, case, place):
    """Writes what diffusers saved, and the run that is made of it."""
    (file,) = (name for name, cases in CASES.items() if case in cases)
    with np.load(root / f"tests/reference/{file}.npz") as stored:
        with_tokenizers(root, written(stored, case, place / "saved"))
    return import_diffusers(place / "saved", place / "run")


@pytest.fixture(scope="module", params=["sd2", *CASES["more_pipelines"]])
def exported(root, tmp_path_factory, request):
    """What diffusers saved, the run that was made of it, and that run's export."""
    place = tmp_path_factory.mktemp(f"exported_{request.param}_")
    run = imported(root, request.param, place)
    cli.main(["export", str(place / "run"), "--to", "diffusers", "--out", str(place / "out")])
    return place, run


@pytest.mark.slow
def test_tensors_are_those_that_diffusers_saved(exported):
    """By name, to the last bit. Names of CLIP begin as in published files, which transformers 5 leaves out."""
    place, _ = exported
    files = sorted(path.relative_to(place / "saved") for path in (place / "saved").rglob("*.safetensors"))
    assert files == sorted(path.relative_to(place / "out") for path in (place / "out").rglob("*.safetensors"))
    for name in files:
        wanted, found = load_file(place / "saved" / name), load_file(place / "out" / name)
        if "embeddings.token_embedding.weight" in wanted:
            wanted = {f"text_model.{tensor}": array for tensor, array in wanted.items()}
        assert found.keys() == wanted.keys(), name
        for tensor, array in wanted.items():
            if tensor == PLACES:  # a table, which the reference drew at random; see below
                continue
            np.testing.assert_array_equal(found[tensor], array, tensor)


@pytest.mark.slow
def test_settings_are_those_that_diffusers_saved(exported):
    """Each that the export names, but for `LEFT_OUT` and versions."""
    place, _ = exported
    for path in sorted((place / "out").rglob("*.json")):
        name, found = path.relative_to(place / "out"), json.loads(path.read_text())
        if name.name == "vocab.json":
            continue
        wanted = json.loads((place / "saved" / name).read_text())
        settings = found.keys() - LEFT_OUT
        assert {key: found[key] for key in settings} == {key: wanted[key] for key in settings}, name
    for name in ("vocab.json", "merges.txt", "spiece.model"):
        for path in (place / "out").rglob(name):
            assert path.read_bytes() == (place / "saved" / path.relative_to(place / "out")).read_bytes()
    card = (place / "out/README.md").read_text()
    missing = ", text_encoder_3=None, tokenizer_3=None" * ("without_t5" in str(place))
    assert "text-to-image" in card and f'from_pretrained("FOLDER"{missing})' in card


@pytest.mark.slow
def test_a_run_comes_back_to_the_last_bit(exported, tmp_path):
    place, run = exported
    again = import_diffusers(place / "out", tmp_path / "again")
    assert again.experiment.model == run.experiment.model
    words, before = (one.tokenizer.encode(["A red Circle", ""]) for one in (again, run))
    jax.tree.map(np.testing.assert_array_equal, tuple(words), tuple(before))
    assert again.tokenizer.files() == run.tokenizer.files()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again.nets), jax.device_get(run.nets))


def test_a_shortcut_of_an_autoencoder_is_a_convolution():
    """As diffusers has it; the tiny networks above have none."""
    params = {"encoder": {"down_1_0": {"shortcut": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}}}}
    begin, found = "encoder.down_blocks.1.resnets.0.conv_shortcut", as_published(params, autoencoder(2))
    assert {name: array.shape for name, array in found.items()} == {
        f"{begin}.weight": (3, 2, 1, 1), f"{begin}.bias": (3,),
    }  # fmt: skip


@pytest.fixture(scope="module")
def configured(root, tmp_path_factory):
    """The model of Stable Diffusion 2's design, and its tokenizer, without weights."""
    place = tmp_path_factory.mktemp("words")
    add_byte_pairs(root, place)
    tokenizer, parts = BytePairs.read(place, 16, "!"), {}
    with np.load(root / "tests/reference/pipelines.npz") as stored:
        for part in ("unet", "vae", "text_encoder", "scheduler"):
            name = f"{part}/{'scheduler_' * (part == 'scheduler')}config.json"
            parts[part] = json.loads(str(stored[f"sd2/folder/{name}"])), name
    return model_of(parts, tokenizer, {}), tokenizer


def changed(model, what):
    """The model with one thing that no such pipeline has."""
    changes = {
        "empty text": {"empty_text": None},
        "layer": {"text": model.text.clone(layer="penultimate")},
        "prediction": {"prediction": "F"},
        "shift": {"space": dataclasses.replace(model.space, shift=0.5)},
        "scales": {"space": dataclasses.replace(model.space, scale=(1.0, 2.0, 3.0, 4.0))},
        "encoder": {"text": TextTransformer(40, 6, 32, 1, 1), "empty_text": None},
        "clip": {"clip": True},
        "sizes": {"network": model.network.clone(added=True)},
        "pixels": {"space": Pixels()},
    }
    return dataclasses.replace(model, **changes[what])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("empty text", r"cannot have empty_text=None \(but EmptyText"),
        ("layer", r"cannot have text.layer='penultimate' \(but 'last'\)"),
        ("prediction", r"cannot have prediction='F' \(but 'epsilon'\)"),
        ("shift", r"cannot have space.shift=0.5 \(but 0.0\)"),
        ("scales", r"space.scale=\(1.0, 2.0, 3.0, 4.0\): a StableDiffusionPipeline has one number"),
        ("encoder", "is no pipeline of diffusers .StableDiffusionPipeline has a LatentUNet and CLIPText; "),
        ("clip", "no StableDiffusionPipeline has these settings .*clip_sample"),
        ("sizes", r"cannot have network.added=True \(but False\)"),
        ("pixels", "a Diffusion of this network, text encoder and space is no pipeline of diffusers"),
    ],
)
def test_what_a_pipeline_does_not_have_is_refused(what, words, configured):
    """In one line, which names the setting."""
    model, tokenizer = configured
    with pytest.raises(ValueError, match=f"{words}.*--to safetensors") as refused:
        configurations(changed(model, what), tokenizer)
    assert "\n" not in str(refused.value)


def test_training_and_sampling_are_of_no_account(configured):
    model, tokenizer = configured
    other = dataclasses.replace(
        model, token_dropout=0.3, train_text=True, solver=Heun(), weighting=MinSNR(),
        network=model.network.clone(dtype="bfloat16", dropout=0.1),
    )  # fmt: skip
    assert configurations(other, tokenizer)["unet"] == configurations(model, tokenizer)["unet"] | {"dropout": 0.1}


@pytest.mark.parametrize("levels", [ShiftedFlow(20, 3.0), Listed((5.0, 9 / 999))])
def test_a_flow_keeps_its_shift(levels):
    """Levels that were read from a scheduler are a list, of which the last time was shifted twice."""
    model = SimpleNamespace(process=RectifiedFlow(), levels=levels, time_scale=1000.0)
    assert latent_scheduler_of(model)["shift"] == pytest.approx(3.0, abs=1e-4)


def test_other_settings_of_t5s_tokenizer_are_refused(root):
    """A pipeline has its length, small letters and places in code, not in files."""
    with np.load(root / "tests/reference/sentence_pieces.npz") as pieces:
        model = pieces["model"].tobytes()
    design = next(one for one in DESIGNS if one.pipeline == "PixArtAlphaPipeline")
    assert design.tokenizer_fault([SentencePieces(model, 120, lower=True)]) is None
    for other in ({"context": 77}, {"lower": False}, {"extra_ids": 9}):
        tokenizer = SentencePieces(model, **{"context": 120, "lower": True} | other)
        assert "is not T5's with context=120, extra_ids=100, lower=True" in design.tokenizer_fault([tokenizer])


def test_another_tokenizer_than_that_of_clip_is_refused(configured, tmp_path):
    """Before anything is written."""
    model, tokenizer = configured
    run = SimpleNamespace(
        experiment=SimpleNamespace(model=model), tokenizer=dataclasses.replace(tokenizer, entities=True)
    )
    with pytest.raises(ValueError, match="tokenizer, BytePairs, is not CLIP's as transformers has it.*--to safetens"):
        export_pipeline(run, tmp_path)
    assert not list(tmp_path.iterdir())


def export_all(place, designs):
    """Writes the exports of designs, of pairs beside the weights of most, and what those draw here."""
    root = pathlib.Path(__file__).parents[2]
    for design in designs or ("sd1", "sd2", *CASES["more_pipelines"]):
        (file,) = (name for name, cases in CASES.items() if design in cases)
        with tempfile.TemporaryDirectory() as folder, np.load(root / f"tests/reference/{file}.npz") as arrays:
            made = imported(root, design, pathlib.Path(folder) / design)
            export_run(made, "diffusers", place / design)
            if design in ("pixart", "sd3"):  # diffusers loads no pairs of these: PixArt's, and T5's
                continue
            nets = adapted(made.nets, LoRA(4, alpha=6.0), ["network", "text"], jax.random.key(0))
            for name in ("network", "text"):
                nets[name]["params"] = jax.tree.map(lambda x: x + 0.05, nets[name]["params"])
            taught = dataclasses.replace(made, state=create(nets, {}, {}))
            export_run(taught, "lora", place / f"{design}_lora")
            told = taught.prompted(2, arrays[f"{design}/prompts"].tolist(), guidance=7.5)
            steps = 10 if file == "pipelines" else None
            images = draw(taught, arrays[f"{design}/latents"], told, steps)
            np.save(place / f"{design}_lora" / "images.npy", images.clip(-1, 1) / 2 + 0.5)


if __name__ == "__main__":
    export_all(pathlib.Path(sys.argv[1]), sys.argv[2:])
