"""Files that are no checkpoint of the kind asked for: one message with a remedy, and nothing written."""

import numpy as np
import official
import pytest

from imagegen_jax import cli
from imagegen_jax.interop.kinds import KINDS, import_checkpoint


@pytest.fixture(scope="module")
def pickles(root):
    with np.load(root / "tests/reference/official_files.npz") as arrays:
        return {name.removesuffix("/file"): arrays[name].tobytes() for name in arrays if name.endswith("/file")}


@pytest.fixture
def refused(tmp_path):
    """A function that writes a file, and returns how its import is refused."""

    def message(kind, content, *options, name="w.pkl"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.savez(path, **content)
        with pytest.raises(ValueError) as error:
            import_checkpoint(kind, path, tmp_path / "run", given=options)
        assert not (tmp_path / "run").exists() and "\n" not in str(error.value)
        return str(error.value)

    return message


def test_a_file_of_another_kind_is_told_with_the_command_for_it(refused, pickles):
    said = refused("edm", pickles["edm2_pixels"])
    assert "is not an EDM pickle; it looks like an EDM2 pickle: imagegen import edm2 " in said
    assert "looks like an EDM pickle: imagegen import edm " in refused("stylegan2-ada", pickles["edm_ncsnpp"])
    assert "looks like no checkpoint that is known here" in refused("dit", {"a": np.zeros(3)}, name="w.npz")
    pairs = {"unet.a.lora_A.weight": np.zeros((1, 3)), "unet.a.lora_B.weight": np.zeros((3, 1))}
    said = refused("dit", pairs, name="w.npz")
    assert "low-rank pairs, which are for a run of their model: imagegen sample RUN --lora" in said
    layers = {"input_blocks.0.0.weight": np.zeros(3), "out.2.positional_embedding": np.zeros(3)}
    assert "imagegen import guided-diffusion-classifier" in refused("guided-diffusion", layers, name="w.npz")


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_failed_download_leaves_is_named(refused, pickles, kind):
    assert "pointer of Git LFS" in refused(kind, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "it is a web page" in refused(kind, b"<!DOCTYPE html><html></html>", name="w.pt")
    assert "truncated, or not a file of weights" in refused(kind, pickles["edm2_pixels"][:5000])


def test_weights_of_another_network_are_named_with_their_shapes(refused, root):
    weights = official.load(root / "tests/reference/official_dit.npz", "dit").weights
    arrays = {name: np.asarray(x, np.float32) for name, x in weights.items()} | {"pos_embed": np.zeros((1, 16, 24))}
    changed = {"blocks.1.mlp.fc1.weight": np.zeros((96, 23)), "blocks.1.attn.q_norm.weight": np.ones(8)}
    said = refused("dit", arrays | changed, "heads=3", name="w.npz")
    assert "not the weights of this network: " in said
    assert "blocks.1.mlp.fc1.weight 96x23 does not fit block_1/mlp_0/kernel 24x96" in said
    assert "blocks.1.attn.q_norm.weight 8 has no place in the network" in said
    less = {name: x for name, x in arrays.items() if name != "final_layer.linear.weight"}
    assert "is not whole: it has no 'final_layer.linear.weight'" in refused("dit", less, "heads=3", name="w.npz")
    nan = arrays | {"blocks.0.mlp.fc2.bias": np.full(24, np.nan)}
    assert "'blocks.0.mlp.fc2.bias' has 24 values that are NaN" in refused("dit", nan, "heads=3", name="w.npz")


def test_what_the_file_does_not_say_is_asked_for(refused, root):
    weights = official.load(root / "tests/reference/official_dit.npz", "dit").weights
    arrays = {name: np.asarray(x, np.float32) for name, x in weights.items()} | {"pos_embed": np.zeros((1, 16, 24))}
    assert "a DiT of width 24 is none of the paper's: say how many heads" in refused("dit", arrays, name="w.npz")
    assert "--set size=3: a file of the kind dit has these options: heads=..." in refused("dit", arrays, "size=3")
    assert "--set heads=x: must be an integer" in refused("dit", arrays, "heads=x")
    assert "edm has these options: none" in refused("edm", arrays, "heads=3")


def test_networks_that_are_not_ours_are_named(refused, pickles):
    """A setting that this package does not have, in the text of the pickle itself."""
    content = pickles["edm_ddpmpp"].replace(b"EDMPrecond", b"VEPrecond_")
    assert "ema is a network of the class 'VEPrecond_': only EDMPrecond can be imported" in refused("edm", content)
    content = pickles["edm_ddpmpp"].replace(b"SongUNet", b"SingUNet")
    assert "model_type='SingUNet': only 'DhariwalUNet' is supported here" in refused("edm", content)


def test_the_command_names_its_kinds(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["import", "stylegan4", "a.pkl", "--out", str(tmp_path / "run")])
    assert "stylegan2-ada" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["import", "diffusers", str(tmp_path), "--out", str(tmp_path / "run"), "--set", "size=3"])
    assert "--set size=3: a folder of diffusers says all of its model" in capsys.readouterr().err
