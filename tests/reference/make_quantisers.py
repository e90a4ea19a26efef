"""Makes quantisers.npz: what published quantisers compute at small random values, for tests/autoencoders/.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy einops einx
    git clone https://github.com/CompVis/taming-transformers ../official/taming-transformers
    git clone https://github.com/FoundationVision/LlamaGen ../official/LlamaGen
    git clone https://github.com/FoundationVision/VAR ../official/VAR
    git clone https://github.com/rosinality/vq-vae-2-pytorch ../official/vq-vae-2-pytorch
    git clone https://github.com/lucidrains/vector-quantize-pytorch ../official/vector-quantize-pytorch
    git clone --depth 1 https://github.com/google-research/google-research ../official/google-research
    .venv-torch/bin/python tests/reference/make_quantisers.py ../official

Classes are imported as they are and compute in float64; the cells of FSQ's notebook run with NumPy in the place of JAX.
Gradients are those of the loss plus the sum of the quantised vectors times `direction`. Vectors are channels last.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
import types
from typing import Any

import numpy as np
import torch

ROOT = pathlib.Path(sys.argv[1])
K, D = 7, 3
SHAPE = (2, 5, 5)  # rows, height, width

Arrays = dict[str, Any]


def load(path: str, name: str) -> Any:
    """Imports one file of a clone; its neighbours are found where it looks for them."""
    file = ROOT / path
    sys.path[:0] = [str(file.parent), str(ROOT / pathlib.Path(path).parts[0])]
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    del sys.path[:2]
    return module


def drawn(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    """Random values that float32 holds exactly."""
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32) * np.float32(scale)
    return torch.tensor(values.astype(np.float64), requires_grad=True)


def first(x: torch.Tensor) -> torch.Tensor:
    """[B H W D] -> [B D H W]"""
    return x.permute(0, 3, 1, 2)


def last(x: torch.Tensor) -> torch.Tensor:
    """[B D H W] -> [B H W D]"""
    return x.permute(0, 2, 3, 1)


def kept(z: torch.Tensor, vectors: torch.Tensor, loss: torch.Tensor, codes: torch.Tensor, **weights: Any) -> Arrays:
    """What a call gave, with the gradients to its input and to its weights."""
    direction = drawn(99, *vectors.shape).detach()
    (loss + (vectors * direction).sum()).backward()
    found = {"z": z, "vectors": vectors, "loss": loss, "codes": codes.reshape(*z.shape[:-1], -1), "grad": z.grad}
    found["direction"] = direction
    for name, weight in weights.items():
        found |= {name: weight} | ({f"{name}_grad": weight.grad} if weight.grad is not None else {})
    return found


def taming() -> dict[str, Arrays]:
    """VQGAN's quantiser with the beta on either side, and the Gumbel one with the noise that it drew."""
    module = load("taming-transformers/taming/modules/vqvae/quantize.py", "taming_quantize")
    found = {}
    for legacy in (True, False):
        quantiser = module.VectorQuantizer2(K, D, 0.25, legacy=legacy).double()
        quantiser.embedding.weight.data = drawn(1, K, D).detach()
        z = drawn(2, *SHAPE, D)
        vectors, loss, (_, _, codes) = quantiser(first(z))
        found["swapped" if legacy else "codebook"] = kept(
            z, last(vectors), loss, codes, embedding=quantiser.embedding.weight
        )
    gumbel = module.GumbelQuantize(D, D, K, kl_weight=0.3, temp_init=0.7).double()
    gumbel.embed.weight.data, gumbel.proj.weight.data = drawn(3, K, D).detach(), drawn(4, K, D, 1, 1).detach()
    gumbel.proj.bias.data = drawn(5, K).detach()
    z = drawn(6, *SHAPE, D)
    torch.manual_seed(0)
    noise = -torch.empty(2, K, 5, 5, dtype=torch.float64).exponential_().log()
    torch.manual_seed(0)
    vectors, loss, (_, _, codes) = gumbel(first(z))
    weights = {"embedding": gumbel.embed.weight, "kernel": gumbel.proj.weight, "bias": gumbel.proj.bias}
    found["gumbel"] = kept(z, last(vectors), loss, codes, **weights) | {"noise": last(noise)}
    return found


def llamagen() -> dict[str, Arrays]:
    """Vectors and codes of length 1; without and with the entropy loss."""
    module = load("LlamaGen/tokenizer/tokenizer_image/vq_model.py", "llamagen_vq")
    found = {}
    for name, entropy in (("normalised", 0.0), ("normalised_entropy", 0.1)):
        quantiser = module.VectorQuantizer(K, D, 0.25, entropy, l2_norm=True, show_usage=False).double()
        quantiser.embedding.weight.data = drawn(1, K, D).detach()
        z = drawn(2, *SHAPE, D)
        vectors, (following, commitment, of_entropy, _), (_, _, codes) = quantiser(first(z))
        weights = {"embedding": quantiser.embedding.weight}
        found[name] = kept(z, last(vectors), following + commitment + of_entropy, codes, **weights)
    return found


def fsq() -> dict[str, Arrays]:
    """Odd and even levels."""
    cells = json.loads((ROOT / "google-research/fsq/fsq.ipynb").read_text())["cells"]
    cell = next("".join(cell["source"]) for cell in cells if "class FSQ" in "".join(cell["source"]))
    jax = types.SimpleNamespace(Array=Any, lax=types.SimpleNamespace(stop_gradient=lambda x: x))
    names = {"np": np, "jnp": np, "jax": jax}
    exec(cell, names)
    found = {}
    for levels in ((5, 4, 3), (8, 5, 5, 5), (2, 2)):
        quantiser = names["FSQ"](list(levels))
        z = drawn(7, *SHAPE, len(levels), scale=2).detach().numpy()
        vectors = quantiser.quantize(z)
        codes = quantiser.codes_to_indexes(vectors)
        found["fsq_" + "".join(map(str, levels))] = {"z": z, "vectors": vectors, "codes": codes}
    return found


def lucidrains() -> dict[str, Arrays]:
    """Lookup-free quantisation with its entropies, and residual quantisation with given books."""
    sys.path.insert(0, str(ROOT / "vector-quantize-pytorch"))
    package = importlib.import_module("vector_quantize_pytorch")
    torch.set_default_dtype(torch.float64)
    quantiser = package.LFQ(
        dim=4, entropy_loss_weight=0.1, commitment_loss_weight=0.25, diversity_gamma=0.8, force_quantization_f32=False
    )
    quantiser.double()
    z = drawn(8, *SHAPE, 4, scale=0.3)
    vectors, codes, loss = quantiser(first(z), inv_temperature=1.0)
    found = {"lfq": kept(z, last(vectors), loss, codes)}
    residual = package.ResidualVQ(dim=D, num_quantizers=3, codebook_size=K, commitment_weight=0.25)
    books = [drawn(10 + depth, K, D, scale=0.5**depth).detach() for depth in range(3)]
    for layer, book in zip(residual.layers, books, strict=True):
        layer._codebook.embed.data = book[None]
    z = drawn(2, *SHAPE, D)
    vectors, codes, losses = residual(z.reshape(2, 25, D), freeze_codebook=True)
    parts = {"vectors": vectors.reshape(z.shape), "codes": codes.reshape(*SHAPE, 3)}
    found["residual"] = {"z": z, "loss": losses.sum(), "books": torch.stack(books), **parts}
    torch.set_default_dtype(torch.float32)
    return found


def var() -> dict[str, Arrays]:
    """VAR's quantiser, with what its transformer is given."""
    module = load("VAR/models/quant.py", "var_quant")
    sizes = (1, 2, 3, 5)
    quantiser = module.VectorQuantizer2(K, D, False, 0.25, v_patch_nums=sizes, quant_resi=0.5, share_quant_resi=4)
    quantiser = quantiser.double()
    quantiser.embedding.weight.data = drawn(1, K, D).detach()
    weights = {"embedding": quantiser.embedding.weight}
    for i, phi in enumerate(quantiser.quant_resi.qresi_ls):
        phi.weight.data, phi.bias.data = drawn(20 + i, D, D, 3, 3, scale=0.3).detach(), drawn(30 + i, D).detach()
        weights |= {f"kernel_{i}": phi.weight, f"bias_{i}": phi.bias}
    z = drawn(2, *SHAPE, D)
    torch.Tensor.float, real = (lambda self: self.double()), torch.Tensor.float
    zeros, torch.Tensor.new_zeros = torch.Tensor.new_zeros, lambda self, *s, dtype=None: torch.zeros(*s).double()
    module.tdist.get_world_size = lambda: 1
    vectors, _, loss = quantiser(first(z))
    with torch.no_grad():
        codes = quantiser.f_to_idxBl_or_fhat(first(z), to_fhat=False)
        inputs = quantiser.idxBl_to_var_input(codes)
        sums = quantiser.f_to_idxBl_or_fhat(first(z), to_fhat=True)
    torch.Tensor.float, torch.Tensor.new_zeros = real, zeros
    found = kept(z, last(vectors), loss, torch.zeros(SHAPE), **weights)
    return {"multiscale": found | {"codes": torch.cat(codes, 1), "next_inputs": inputs, "decoded": last(sums[-1])}}


def rosinality() -> dict[str, Arrays]:
    """Two steps of a book that follows averages, without smoothing; and the network of two levels."""
    module = load("vq-vae-2-pytorch/vqvae.py", "vqvae2")
    quantiser = module.Quantize(D, K, decay=0.9, eps=0.0).double().train()
    book = drawn(1, K, D).detach()
    quantiser.embed.copy_(book.T), quantiser.embed_avg.copy_(book.T), quantiser.cluster_size.fill_(1.0)
    found = {}
    for step in range(2):
        z = drawn(40 + step, *SHAPE, D).detach()
        vectors, loss, codes = quantiser(z)
        found |= {f"z_{step}": z, f"vectors_{step}": vectors, f"loss_{step}": loss, f"codes_{step}": codes}
        found |= {f"embedding_{step}": quantiser.embed.T.clone(), f"counts_{step}": quantiser.cluster_size.clone()}
    network = module.VQVAE(channel=8, n_res_block=2, n_res_channel=4, embed_dim=D, n_embed=K).double().eval()
    weights = {}
    for i, (name, weight) in enumerate(network.state_dict().items()):
        if "cluster_size" in name or "embed_avg" in name:
            continue
        weight.copy_(drawn(100 + i, *weight.shape, scale=0.7 / np.sqrt(max(1, np.prod(weight.shape[1:])))).detach())
        weights[f"weights/{name}"] = weight
    image = drawn(3, 2, 16, 16, 3)
    y, loss = network(first(image))
    top, bottom = network.encode(first(image))[3:]
    made = {"image": image, "y": last(y), "loss": loss.sum(), "top": top, "bottom": bottom}
    return {"averaged": {"book": book, **found}, "two_levels": made | weights}


def main() -> None:
    """Writes the file."""
    cases = taming() | llamagen() | fsq() | lucidrains() | var() | rosinality()
    arrays = {"versions": np.array(f"torch {torch.__version__}, numpy {np.__version__}")}
    for case, found in cases.items():
        for name, value in found.items():
            array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
            arrays[f"{case}/{name}"] = array.astype(np.int32 if name.partition("_")[0] in INTEGERS else np.float32)
    np.savez_compressed(pathlib.Path(__file__).parent / "quantisers.npz", **arrays)


INTEGERS = ("codes", "top", "bottom")

if __name__ == "__main__":
    main()
