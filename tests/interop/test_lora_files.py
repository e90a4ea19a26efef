"""Files of low-rank pairs: what peft computes with one, and what it would find in one of ours."""

import dataclasses
import functools
import json
import zlib

import drawn_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official import close, jit, parsed, published
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import imagegen_jax as ig
from imagegen_jax.core.arrays.lora import LoRA, adapted
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.run import Run
from imagegen_jax.core.state import create
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.diffusers_config import abstract_parameters
from imagegen_jax.interop.exports.export import PAIRS, export_run
from imagegen_jax.interop.lora import export_lora, with_lora
from imagegen_jax.interop.lora_files import read_pairs
from imagegen_jax.interop.name_map import renamed
from imagegen_jax.interop.names.text_encoders import CLIP
from imagegen_jax.interop.names.transformers import mmdit, pixart
from imagegen_jax.interop.names.unets import ddpm, latent_unet
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.backbones.transformers.mmdit import MMDiT
from imagegen_jax.nn.backbones.transformers.pixart import PixArt
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.nn.text_encoders.joined import JoinedText
from imagegen_jax.nn.text_encoders.t5 import T5Encoder

MODEL = DDPM(UNet(128, (1, 1), 1, (4,), 0.0), image_shape=(8, 8, 3))
LAYERS = ("attention/*", "conv_1", "embed", "shortcut", "down_1")


def drawn(listing):
    """Tensors by "NAME SHAPE", drawn as the reference's were."""
    found = {}
    for line in listing:
        name, shape = str(line).rsplit(" ", 1)
        shape = tuple(map(int, shape.split(",")))
        random = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        found[name] = (random / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def reference(root):
    with np.load(root / "tests/reference/lora.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def base(reference, tmp_path_factory):
    """A run of the U-Net with the reference's weights."""
    like = abstract_parameters(MODEL.network, MODEL.image_shape)
    params = renamed(drawn(reference["names"]), like, ddpm(len(MODEL.network.multipliers)), "here")
    experiment = ig.Experiment("base", MODEL, Digits(channels=3), {}, mesh=MeshShape(data=1))
    return Run(experiment, create({"network": {"params": params}}, {}, {}), tmp_path_factory.mktemp("base"))


@pytest.fixture
def file(reference, tmp_path):
    return saved(tmp_path / "pairs.safetensors", drawn(reference["pairs"]), reference)


def saved(path, tensors, reference):
    settings = json.dumps({"unet.r": 3, "unet.lora_alpha": float(reference["alpha"])})
    save_file(tensors, path, {"lora_adapter_metadata": settings})
    return path


@pytest.fixture(scope="module")
def trained(base):
    """Pairs beside those weights, a little moved."""
    nets = adapted(base.nets, LoRA(3, alpha=6.0, kernels=LAYERS), ["network"], jax.random.key(0))
    nets["network"]["params"] = jax.tree.map(lambda x: x + 0.1, nets["network"]["params"])
    return dataclasses.replace(base, state=create(nets, {}, {}))


def test_outputs_are_those_of_peft(reference, base, file):
    network = with_lora(base, file).nets["network"]
    y = jax.jit(MODEL.network.apply)(network, reference["x"].transpose(0, 2, 3, 1), reference["t"].astype(np.float32))
    gap = np.abs(np.asarray(y).transpose(0, 3, 1, 2) - reference["y"]).max()
    assert gap < 1e-5 * np.abs(reference["y"]).max()
    off = with_lora(base, file, scale=0.0).nets["network"]
    assert all(map(np.array_equal, jax.tree.leaves(off), jax.tree.leaves(base.nets["network"])))


def test_what_is_written_has_the_names_and_shapes_of_peft(reference, trained, tmp_path):
    export_lora(trained, tmp_path / "out.safetensors")
    shapes = {name: array.shape for name, array in load_file(tmp_path / "out.safetensors").items()}
    assert shapes == {name: array.shape for name, array in drawn(reference["pairs"]).items()}
    with safe_open(tmp_path / "out.safetensors", "numpy") as found:
        settings = json.loads(found.metadata()["lora_adapter_metadata"])
    assert settings["unet.r"] == 3 and settings["unet.lora_alpha"] == 6.0
    assert len(settings["unet.target_modules"]) == len(shapes) // 2


def test_pairs_come_back_as_they_went(base, trained, tmp_path):
    export_lora(trained, tmp_path / "out.safetensors")
    again = with_lora(base, tmp_path / "out.safetensors").nets["network"]
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(trained.nets["network"]), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_older_names_are_read(reference, base, file, tmp_path):
    """Of kohya's, where alpha is a tensor, and of diffusers before peft."""
    wanted = jax.tree.leaves(with_lora(base, file).nets["network"])
    words = {"lora_A": "lora_down", "lora_B": "lora_up"}
    tensors = {name.replace(a, b): x for name, x in load_file(file).items() for a, b in words.items() if a in name}
    alphas = {name.replace("lora_down.weight", "alpha"): np.array(6.0) for name in tensors if "lora_down" in name}
    save_file(tensors | alphas, tmp_path / "kohya.safetensors")
    dotted = {name.replace("lora_", "lora."): x for name, x in tensors.items()}
    saved(tmp_path / "old.safetensors", dotted, reference)
    for name in ("kohya", "old"):
        found = jax.tree.leaves(with_lora(base, tmp_path / f"{name}.safetensors").nets["network"])
        assert all(map(np.array_equal, found, wanted))


def test_an_alpha_pattern_that_is_no_pattern_is_refused_with_its_file(tmp_path):
    tensors = {"unet.a.lora_A.weight": np.ones((1, 2)), "unet.a.lora_B.weight": np.ones((2, 1))}
    settings = json.dumps({"unet.alpha_pattern": {"a(": 2}})
    save_file(tensors, tmp_path / "x.safetensors", {"lora_adapter_metadata": settings})
    with pytest.raises(ValueError, match=r"x.safetensors: alpha_pattern has 'a\(', which is no regular expression"):
        read_pairs(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name: name.replace("conv1", "conv9"), r"no layer 'down_blocks.0.resnets.0.conv9'; the nearest is"),
        (lambda name: name.replace("lora_B", "lora_C"), "is of no low-rank pair"),
        (lambda name: name.replace("to_k.lora_A", "to_z.lora_A"), "has lora_B, but a pair is lora_A and lora_B"),
    ],
)
def test_other_files_are_refused(base, file, reference, tmp_path, change, said):
    tensors = {change(name): x for name, x in load_file(file).items()}
    with pytest.raises(ValueError, match=said):
        with_lora(base, saved(tmp_path / "x.safetensors", tensors, reference))


def test_whole_weights_are_no_pairs(tmp_path):
    save_file({"conv_in.weight": np.zeros((3, 3)), "conv_in.bias": np.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"holds 'conv_in\.\w+' and 1 more, .* no low-rank pairs .* whole weights are"):
        read_pairs(tmp_path / "x.safetensors")


def test_pairs_of_other_shapes_are_refused(base, file, reference, tmp_path):
    tensors = {name: x[:, :2] if "lora_B" in name else x for name, x in load_file(file).items()}
    with pytest.raises(ValueError, match="they are another network's"):
        with_lora(base, saved(tmp_path / "x.safetensors", tensors, reference))


def test_a_run_without_pairs_has_nothing_to_write(base, tmp_path):
    with pytest.raises(ValueError, match="has no low-rank pairs: train with --lora.rank"):
        export_lora(base, tmp_path / "out.safetensors")
    with pytest.raises(ValueError, match="no low-rank pairs of 'text', but of no network: train with --lora.rank"):
        export_lora(base, tmp_path / "out.safetensors", "text")


# --- networks of pipelines --------------------------------------------------------------------------------------------

LATENT = LatentUNet(16, (1, 2), 1, (1, 0), heads=2)
NETWORKS = {  # network, its names and prefix, pairs of which kernels, some layers in diffusers, one and its path here
    "sd1": (
        LATENT, latent_unet(2), "unet", ("*_transformer/block_*", "conv_1", "shortcut", "embed", "up_1"),
        {"up_blocks.0.upsamplers.0.conv", "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"},
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "down_0_0_transformer/block_0/self_attention/query",
    ),
    "pixart": (
        PixArt(depth=2, width=24, heads=2, extent=4), pixart(2), "transformer", ("block_*", "caption_*", "modulation"),
        {"adaln_single.linear", "caption_projection.linear_2", "transformer_blocks.1.ff.net.2"},
        "transformer_blocks.1.attn2.to_k", "block_1/cross_attention/key",
    ),
    "sd3": (
        MMDiT(depth=2, width=16, heads=2, largest=12, extent=4), mmdit(2), "transformer",
        ("block_0/*", "text", "pooled_*"),
        {"context_embedder", "time_text_embed.text_embedder.linear_1", "transformer_blocks.0.norm1_context.linear"},
        "transformer_blocks.0.attn.add_q_proj", "block_0/text/query",
    ),
}  # fmt: skip


def with_pairs(root, name, kernels, folder):
    """A run with the weights of a file of diffusers and random pairs of some kernels; the same without; the file's."""
    case, (network, rules, *_) = published(root / "tests/reference/text_to_image.npz", name), NETWORKS[name]
    told = {key: value for key, value in case.inputs.items() if key not in ("x", "t")}
    told |= {"token_mask": told["token_mask"] > 0} if "token_mask" in told else {}
    x = case.inputs["x"].transpose(0, 2, 3, 1)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, np.zeros(2), Conditioning(**told))
    nets = {"network": {"params": renamed(case.tensors, shapes["params"], rules, "here")}}
    plain = Run(ig.Experiment("a", Diffusion(network), Digits(), {}), create(nets, {}, {}), folder)
    nets = adapted(nets, LoRA(2, alpha=4.0, kernels=kernels), ["network"], jax.random.key(0))
    nets["network"]["params"] = jax.tree.map(lambda x: x + 0.1, nets["network"]["params"])
    return dataclasses.replace(plain, state=create(nets, {}, {})), plain, case.tensors


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_layers_have_their_names_in_diffusers(name, root, tmp_path):
    *_, prefix, kernels, some, one, path = NETWORKS[name]
    run, plain, tensors = with_pairs(root, name, kernels, tmp_path)
    export_lora(run, tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    layers = {name.removeprefix(f"{prefix}.").split(".lora_")[0] for name in found}
    assert some < layers
    for layer in layers:
        a, b = (found[f"{prefix}.{layer}.lora_{half}.weight"] for half in "AB")
        assert (*b.shape[:1], *a.shape[1:]) == tensors[f"{layer}.weight"].shape
    again = with_lora(plain, tmp_path / "out.safetensors").nets["network"]["params"]
    pair = found[f"{prefix}.{one}.lora_B.weight"] @ found[f"{prefix}.{one}.lora_A.weight"]
    wanted = tensors[f"{one}.weight"] + 4 / 2 * pair
    kernel = functools.reduce(dict.__getitem__, path.split("/"), again)["kernel"]
    np.testing.assert_allclose(kernel, wanted.T, rtol=1e-5)


@pytest.mark.parametrize(("name", "layer"), [("sd1", "time_0"), ("sd3", "patch"), ("sd3", "modulation")])
def test_a_layer_that_lies_otherwise_in_diffusers_is_refused(name, layer, root, tmp_path):
    run, *_ = with_pairs(root, name, (layer,), tmp_path)
    with pytest.raises(ValueError, match=f"the layer {layer} has no name, or another layout, in diffusers"):
        export_lora(run, tmp_path / "out.safetensors")


def test_pairs_of_several_text_encoders_go_to_each_by_its_name(tmp_path):
    """text_encoder, text_encoder_2 and text_encoder_3, as in Stable Diffusion 3, and back; kohya's words, too."""
    clip, t5 = CLIPText(23, 8, width=16, depth=1, heads=2), T5Encoder(23, 8, 16, 1, 2, 8, 16)
    text = JoinedText((clip, clip.clone()), t5, width=32)
    words = jnp.zeros((1, 24), jnp.int32)
    weights = jax.tree.map(
        lambda leaf: jnp.ones(leaf.shape), jax.eval_shape(text.init, jax.random.key(0), words, words > 0)
    )
    model = Diffusion(LATENT, text=text, train_text=False)
    plain = Run(ig.Experiment("a", model, Digits(), {}), create({"text": weights}, {}, {}), tmp_path)
    nets = adapted(plain.nets, LoRA(2, kernels=("query", "mlp/hidden")), ["text"], jax.random.key(0))
    nets["text"]["params"] = jax.tree.map(lambda x: x + 0.1, nets["text"]["params"])
    run = dataclasses.replace(plain, state=create(nets, {}, {}))
    export_lora(run, tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    of_clip = ("mlp.fc1", "self_attn.q_proj")
    named = {f"text_encoder{end}.text_model.encoder.layers.0.{layer}" for end in ("", "_2") for layer in of_clip}
    block = "text_encoder_3.encoder.block.0.layer"
    named |= {f"{block}.0.SelfAttention.q", f"{block}.1.DenseReluDense.wi_0"}
    assert {name.split(".lora_")[0] for name in found} == named
    with safe_open(tmp_path / "out.safetensors", "numpy") as file:
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
    for end in ("", "_2"):  # as transformers 5 names them, whose layers do not begin with text_model
        assert sorted(settings[f"text_encoder{end}.target_modules"]) == [f"encoder.layers.0.{name}" for name in of_clip]
    same(with_lora(plain, tmp_path / "out.safetensors"), run)
    kohya = {}
    for name, tensor in found.items():
        layer, _, half = name.partition(".lora_")
        part, _, layer = layer.replace("text_encoder.", "text_encoder_1.").partition(".")
        flat = f"lora_te{part[-1]}_{layer.replace('.', '_')}"
        kohya |= {f"{flat}.lora_{'down' if half[0] == 'A' else 'up'}.weight": tensor}
    save_file(kohya, tmp_path / "kohya.safetensors")
    same(with_lora(plain, tmp_path / "kohya.safetensors"), run)


def same(one, other):
    """Two runs have the same text encoders, and they are not as they began."""
    jax.tree.map(np.testing.assert_array_equal, one.nets["text"], other.nets["text"])
    assert any(np.any(np.asarray(leaf) != 1) for leaf in jax.tree.leaves(one.nets["text"]))


# --- files of three libraries, with pairs of the text encoder ---------------------------------------------------------

TEXT = CLIPText(23, 8, width=16, depth=2, heads=2)


@pytest.fixture(scope="module")
def libraries(root):
    with np.load(root / "tests/reference/lora_files.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def by_text(root, tmp_path_factory):
    """A run with the U-Net and the text encoder of the reference; what both put out, as a function of a run."""
    case = published(root / "tests/reference/text_to_image.npz", "sd1")
    encoder = published(root / "tests/reference/text_encoders.npz", "quick_gelu")
    x, t = case.inputs["x"].transpose(0, 2, 3, 1), case.inputs["t"]
    told = Conditioning(tokens=case.inputs["tokens"])
    with np.load(root / "tests/reference/text_encoders.npz") as arrays:
        words, mask = arrays["text"].astype(np.int32), arrays["mask"]
    shapes = jax.eval_shape(LATENT.init, jax.random.key(0), x, t, told)["params"]
    of_text = jax.eval_shape(TEXT.init, jax.random.key(0), words, mask)["params"]
    nets = {"network": {"params": renamed(case.tensors, shapes, latent_unet(2), "here")}}
    nets["text"] = {"params": renamed(encoder.tensors, of_text, CLIP, "here")}
    model = Diffusion(LATENT, text=TEXT, train_text=False)
    run = Run(ig.Experiment("a", model, Digits(), {}), create(nets, {}, {}), tmp_path_factory.mktemp("by_text"))

    @jit
    def both(nets):
        return LATENT.apply(nets["network"], x, t, told), TEXT.apply(nets["text"], words, mask).tokens

    return run, both


def written(libraries, name, place):
    """The file of a library, whose tensors follow from their names; peft's has its alpha in the metadata."""
    rows = map(parsed, libraries[f"{name}/weights"].tolist())
    tensors = {
        key: np.asarray(drawn_weights.weight(key, *rest) if rest[0] else libraries["alpha"], np.float32)
        for key, *rest in rows
    }
    save_file(tensors, place)
    return place


@pytest.mark.parametrize("name", ["kohya", "peft", "older"])
def test_files_of_three_libraries_count_as_diffusers_loads_them(name, libraries, by_text, tmp_path):
    run, both = by_text
    found = with_lora(run, written(libraries, name, tmp_path / "pairs.safetensors"), float(libraries["scale"]))
    y, tokens = both(found.nets)
    close(np.asarray(y).transpose(0, 3, 1, 2), libraries[f"{name}/y"])
    close(tokens, libraries[f"{name}/tokens"])


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("lora_te2_a.lora_down.weight", "has pairs of text_encoder_2, but this run has text_encoder alone"),
        ("lora_te_text_model_encoder_layers_9_mlp_fc1.lora_down.weight", "has no layer .*layers_9_mlp_fc1'; .*nearest"),
        ("unet.conv_in.lora_magnitude_vector", "is of no low-rank pair .* have to be merged where they were made"),
    ],
)
def test_what_a_run_does_not_have_is_named(key, said, by_text, tmp_path):
    pair = {key: np.zeros((3, 16), np.float32), key.replace("down", "up"): np.zeros((16, 3), np.float32)}
    save_file(pair, tmp_path / "pairs.safetensors")
    with pytest.raises(ValueError, match=said):
        with_lora(by_text[0], tmp_path / "pairs.safetensors")


def test_pairs_of_a_text_encoder_need_a_run_with_one(base, libraries, tmp_path):
    with pytest.raises(ValueError, match="has pairs of text_encoder, but this run has no network 'text'"):
        path = written(libraries, "kohya", tmp_path / "pairs.safetensors")
        save_file({k: x for k, x in load_file(path).items() if "_te_" in k}, path)
        with_lora(base, path)


@pytest.fixture(scope="module")
def taught(by_text):
    """That run with pairs beside both networks' weights, a little moved."""
    nets = adapted(by_text[0].nets, LoRA(2), ["network", "text"], jax.random.key(0))
    for name in ("network", "text"):
        nets[name]["params"] = jax.tree.map(lambda x: x + 0.1, nets[name]["params"])
    return dataclasses.replace(by_text[0], state=create(nets, {}, {}))


def test_an_export_of_both_networks_pairs_counts_as_they_do(by_text, taught, tmp_path):
    """Outputs to the last bit; the weights beside the pairs are not in the file."""
    run, both = by_text
    folder = export_run(taught, "lora", tmp_path / "out", licence="mit")
    assert {path.name for path in folder.iterdir()} == {PAIRS, "README.md"}
    names = load_file(folder / PAIRS).keys()
    assert {name.split(".")[0] for name in names} == {"unet", "text_encoder"}
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)
    found, wanted, before = both(with_lora(run, folder / PAIRS).nets), both(taught.nets), both(run.nets)
    for one, other, unchanged in zip(found, wanted, before, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.abs(one - unchanged).max() > 0.01
    card = (folder / "README.md").read_text()
    assert 'pipeline.load_lora_weights("FOLDER")' in card and "license: mit" in card


def test_an_export_says_how_to_use_pairs_that_diffusers_does_not_know(trained, tmp_path):
    card = (export_run(trained, "lora", tmp_path / "out") / "README.md").read_text()
    assert f"--lora FOLDER/{PAIRS}" in card and "load_lora_weights" not in card
