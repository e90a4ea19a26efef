"""Runs as files: back to the last bit, and a sampler without this package."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from imagegen_jax import cli
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.privacy.private import DifferentialPrivacy
from imagegen_jax.core.provenance.origin import digest_of
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.run import load
from imagegen_jax.data import Captioned
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.gan.r3gan import R3GAN, Discriminator, Generator, Stages
from imagegen_jax.interop.exports.card_facts import scores_of
from imagegen_jax.interop.exports.export import export_run
from imagegen_jax.interop.exports.stablehlo import export_sampler
from imagegen_jax.interop.exports.weights import WEIGHTS, import_weights
from imagegen_jax.interop.importing import Published, completed, shapes_of, write_run
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.text_encoders.small import TextTransformer
from imagegen_jax.text import WordVocabulary
from imagegen_jax.text.words import Words

STAGES = Stages((8, 8), (2, 2), (1, 1))
MODEL = R3GAN((8, 8, 3), 3, Generator(STAGES, 4), Discriminator(STAGES, 4), latent_dim=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    nets = completed(MODEL, {}, shapes_of(MODEL))
    return write_run(tmp_path_factory.mktemp("runs") / "a", "tiny", Published(MODEL, nets, {}, ("x", "y", "z")))


def test_the_newest_scores_of_a_run_are_on_its_card(tmp_path):
    cards = [{"metric": "FID", "value": value, "reference": "digits", "time": "2026-01-01"} for value in (9.5, 7.25)]
    (tmp_path / "evaluations.jsonl").write_text("".join(f"{json.dumps(card)}\n" for card in cards) + '{"half')
    assert scores_of(tmp_path).splitlines()[2:] == ["| FID | 7.25 |  |  | digits |"]


def test_weights_come_back_to_the_last_bit(run, tmp_path, capsys):
    cli.main(["export", str(run.workdir), "--to", "safetensors", "--out", str(tmp_path / "out"), "--licence", "mit"])
    cli.main(["import", "safetensors", str(tmp_path / "out"), "--out", str(tmp_path / "again")])
    again = load(tmp_path / "again")
    assert again.experiment.model == MODEL and again.class_names == ("x", "y", "z")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again.nets), jax.device_get(run.nets))
    card = (tmp_path / "out/README.md").read_text()
    assert "license: mit" in card and "R3GAN of 8x8x3 images" in card and "it was not evaluated" in card
    assert "README.md, data.json, experiment.json, origin.json, weights.safetensors" in capsys.readouterr().out


def test_the_seed_of_a_private_run_is_not_exported(run, tmp_path):
    """Nor can it be guessed by the digest; of any other run both are there."""
    private = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, private=DifferentialPrivacy()))
    for given, name in ((private, "private"), (run, "plain")):
        export_run(given, "safetensors", tmp_path / name)
        assert ("seed" in json.loads((tmp_path / name / "experiment.json").read_text())) == (name == "plain")
    assert import_weights(tmp_path / "private", tmp_path / "again").experiment.model == MODEL
    digests = []
    for seed in (0, 1):
        for of in (run.experiment, private.experiment):
            write_json(tmp_path / "experiment.json", to_dict(dataclasses.replace(of, seed=seed)))
            digests.append(digest_of(tmp_path))
    assert digests[0] != digests[2] and digests[1] == digests[3]


def test_a_run_of_texts_comes_back_with_its_tokenizer(tmp_path, monkeypatch):
    """Of the words that it was trained with, whatever captions are named; and with what is known of its origin."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    model = Diffusion(
        UNet(width=4, multipliers=(1,), blocks=1, attention_at=(8,), cross_attention=True), image_shape=(8, 8, 3),
        text=TextTransformer(vocabulary_size=40, context=6, width=4, depth=1, heads=1),
    )  # fmt: skip
    nets = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes_of(model))
    words = Words.built(["a red circle"], context=6)
    published = Published(model, nets, {"kind": "toy"}, tokenizer=WordVocabulary(context=6), kept=words)
    export_run(write_run(tmp_path / "a", "texts", published), "safetensors", tmp_path / "out")
    again = import_weights(tmp_path / "out", tmp_path / "again")
    assert again.tokenizer == words
    assert json.loads((tmp_path / "again/origin.json").read_text())["before"] == {"kind": "toy"}
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images/0.png")
    (tmp_path / "images/0.txt").write_text("a blue square")
    with pytest.raises(ValueError, match=r"captions make another vocabulary \(7 tokens\) .* model reads \(7\)"):
        import_weights(tmp_path / "out", tmp_path / "other", f"captioned:{tmp_path / 'images'}")
    assert not (tmp_path / "other").exists()
    (tmp_path / "images/0.txt").write_text("a red circle")
    named = import_weights(tmp_path / "out", tmp_path / "named", f"captioned:{tmp_path / 'images'}")
    assert isinstance(named.experiment.data, Captioned) and named.tokenizer == words


def test_weights_of_another_experiment_are_refused(run, tmp_path):
    export_run(run, "safetensors", tmp_path / "out")
    path = tmp_path / "out" / WEIGHTS
    arrays = load_file(path)
    arrays["generator/params/basis"] = arrays["generator/params/basis"][..., :3]
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, path)
    with pytest.raises(
        ValueError, match=r"\(1 differ\): generator/params/basis: .*4, 4, 3.* there, .*4, 4, 8.* wanted"
    ):
        import_weights(tmp_path / "out", tmp_path / "again")
    path.unlink()
    with pytest.raises(ValueError, match=f"has no {WEIGHTS}: give a folder that `imagegen export RUN"):
        import_weights(tmp_path / "out", tmp_path / "again")
    assert not (tmp_path / "again").exists()


RUNS = """
import sys
sys.modules["imagegen_jax"] = None
import jax, numpy as np
from jax import export
sampler = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
np.save(sys.argv[2], sampler.call(np.uint32(7), {"label": np.array([2, 0, 1], np.int32)}))
"""


@pytest.mark.slow
def test_a_sampler_runs_without_this_package(run, tmp_path):
    folder = export_run(run, "stablehlo", tmp_path / "out", n=3)
    inputs = json.loads((folder / "inputs.json").read_text())
    assert inputs["conditions"] == {"label": {"shape": [3], "dtype": "int32"}}
    code = [sys.executable, "-c", RUNS, str(folder / "sampler.stablehlo"), str(tmp_path / "images.npy")]
    subprocess.run(code, check=True, cwd=tmp_path)
    images = np.load(tmp_path / "images.npy")
    assert images.dtype == np.uint8
    wanted = run.sample(3, [2, 0, 1], seed=7)
    assert np.abs(images.astype(int) - wanted).max() <= 1  # another compilation may round half a level otherwise


def test_what_a_form_does_not_have_is_refused_and_nothing_is_left(run, tmp_path):
    with pytest.raises(ValueError, match="a R3GAN is none of those that diffusers has .*--to safetensors"):
        export_run(run, "diffusers", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").touch()
    with pytest.raises(ValueError, match="not empty"):
        export_run(run, "safetensors", tmp_path / "out")


def test_a_sampler_may_look_its_weights_up_by_what_it_draws(tmp_path):
    """As priors over codes do in their tokenizer."""

    class Table:
        image_shape = (2, 2, 3)

        def init(self, key, batch):
            return {}

        def phases(self, stage=None):
            return []

        def sample(self, nets, key, n, conditions):
            return nets["table"]["params"][jax.random.randint(key, (n, 2, 2), 0, 3)]

    nets = {"table": {"params": jnp.linspace(-1, 1, 9).reshape(3, 3)}}
    run = SimpleNamespace(experiment=SimpleNamespace(model=Table()), nets=nets)
    assert export_sampler(run, tmp_path, 4)["conditions"] == {}
    made = jax.export.deserialize(bytearray((tmp_path / "sampler.stablehlo").read_bytes()))
    assert made.call(np.uint32(0), {}).shape == (4, 2, 2, 3)
