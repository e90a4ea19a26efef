"""Makes published_files.npz: small files as authors publish weights, and what their own code reads, for tests.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy requests "setuptools<81"
    git clone https://github.com/NVlabs/stylegan2-ada-pytorch ../stylegan2
    git clone https://github.com/NVlabs/edm ../edm && git clone https://github.com/NVlabs/edm2 ../edm2
    git clone https://github.com/brownvc/R3GAN ../r3gan
    .venv-torch/bin/python tests/reference/make_published_files.py ../stylegan2 ../edm ../edm2 ../r3gan

The .pkl are made and read by the authors' own classes, tiny, as their training loops make them; in place of the source
of a class, which is theirs, a file has a line that would end the process. Of each tensor of each file there are type,
shape and the first 8 bytes of the SHA-256 of its bytes, those of 8 and 16 bits as float32.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import io
import json
import pathlib
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import torch

FILE = pathlib.Path(__file__).parent / "published_files.npz"
Values = dict[str, torch.Tensor]
LATER = "uint16 uint32 uint64 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz".split()
OWN = ("training", "torch_utils", "dnnlib", "R3GAN")  # packages that the authors' repositories have all


def described(values: Values) -> dict[str, list[Any]]:
    """Returns type, shape and hash of each tensor."""
    found = {}
    for name, tensor in values.items():
        small = tensor.is_floating_point() and tensor.itemsize < 4
        array = np.ascontiguousarray((tensor.float() if small else tensor).detach().numpy())
        found[name] = [str(array.dtype), list(tensor.shape), hashlib.sha256(array.tobytes()).hexdigest()[:16]]
    return found


def of_module(module: torch.nn.Module) -> Values:
    """Returns all parameters and buffers, also those that a state dict leaves out."""
    return dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """Draws each parameter anew, so that none is zero."""
    with torch.no_grad():
        for value in module.parameters():
            value.normal_()
    return module.eval().requires_grad_(False)


def without_source(persistence: types.ModuleType) -> None:
    """Puts a line in the place of the source of classes, by which they are found when they are read here."""

    def stands_for(module: types.ModuleType) -> str:
        source = f"raise SystemExit('the source of {module.__name__} was run')"
        persistence._src_to_module_dict[source] = module
        return source

    persistence._module_to_src = stands_for


def networks_of(folder: str) -> dict[str, Any]:
    """Returns what a training loop of this repository saves, by the names that it has there."""
    name = "networks_edm2" if (pathlib.Path(folder) / "training/networks_edm2.py").exists() else "networks"
    if not (pathlib.Path(folder) / "R3GAN").exists():
        without_source(importlib.import_module("torch_utils.persistence"))
    networks = importlib.import_module(f"training.{name}")
    song = {"model_channels": 4, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": [8]}
    if hasattr(networks, "SynthesisNetwork"):
        shape = {"channel_base": 32, "channel_max": 4, "num_fp16_res": 1}
        made = networks.Generator(4, 2, 4, 8, 3, {"num_layers": 2}, shape)
        return {"training_set_kwargs": {"path": "a.zip", "max_size": 9}, "G": None, "G_ema": drawn(made)}
    if hasattr(networks, "EDMPrecond"):
        made = networks.EDMPrecond(8, 1, 2, model_type="SongUNet", **song, channel_mult_emb=1)
        loss = importlib.import_module("training.loss").EDMLoss()
        return {"ema": drawn(made), "loss_fn": loss, "augment_pipe": None, "dataset_kwargs": {"resolution": 8}}
    if hasattr(networks, "Precond"):
        made = networks.Precond(8, 1, 2, logvar_channels=4, channels_per_head=4, **song)
        return {"ema": drawn(made).to(torch.float16), "dataset_kwargs": {"resolution": 8}}
    widths = {"WidthPerStage": (4, 4), "CardinalityPerStage": (2, 2), "BlocksPerStage": (1, 1), "ExpansionFactor": 2}
    made = networks.Generator(
        NoiseDimension=4, ConditionEmbeddingDimension=4, c_dim=2, img_resolution=8, FP16Stages=[1], **widths
    )
    optimizer = torch.optim.Adam(made.parameters())
    made(torch.randn(2, 4), torch.eye(2)).square().sum().backward()
    optimizer.step()
    return {"G_ema": drawn(copy.deepcopy(made)), "cur_nimg": 5, "G_opt_state": optimizer.state_dict()}


def of_authors(folder: str) -> tuple[bytes, dict[str, list[Any]]]:
    """Makes a .pkl by the classes in a repository, and reads it by them."""
    sys.path.insert(0, folder)
    saved = pickle.dumps(networks_of(folder))
    values = {
        f"{key}/{name}": tensor
        for key, value in pickle.loads(saved).items()
        if isinstance(value, torch.nn.Module)
        for name, tensor in of_module(value).items()
    }
    sys.path.remove(folder)
    for name in [name for name in sys.modules if name.split(".")[0] in OWN]:
        del sys.modules[name]
    return saved, described(values)


def every_type() -> OrderedDict[str, torch.Tensor]:
    """Tensors of every type that torch saves; views with steps, of a part, of none, repeated; shared storages."""
    base = torch.randn(6, 4)
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128".split()
    found = OrderedDict((name, (base[:2] * 3).to(getattr(torch, name))) for name in names)
    found |= {name: (base[:2].abs() * 3).to(getattr(torch, name)) for name in LATER}
    found |= {"view.transposed": base.T, "view.steps": base[1::2, ::3], "view.all": base, "view.scalar": base[2, 1]}
    return found | {"view.none": base[:0], "view.repeated": base[:1].expand(5, 4), "tied": torch.nn.Parameter(base)}


def saved(value: object, **options: bool) -> bytes:
    """Returns what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def swapped(content: bytes, values: Values) -> bytes:
    """Returns a file of torch as a machine would have saved it whose highest bytes come first."""
    widths = {"complex64": 4, "complex128": 8}
    given, made = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    order = list(dict.fromkeys(value.untyped_storage().data_ptr() for value in values.values()))
    width = {
        str(order.index(v.untyped_storage().data_ptr())): widths.get(str(v.dtype)[6:], v.itemsize)
        for v in values.values()
    }
    with zipfile.ZipFile(made, "w") as file:
        for name in given.namelist():
            inside = given.read(name)
            key = name.rpartition("/data/")[2]
            if key in width:
                inside = np.frombuffer(inside, np.uint8).reshape(-1, width[key])[:, ::-1].tobytes()
            file.writestr(name, b"big" if name.endswith("/byteorder") else inside)
    return made.getvalue()


class ModelCheckpoint:
    """A callback of a training, of a class that no reader knows."""

    def __init__(self, path: str) -> None:
        self.path, self.best, self.scores = path, torch.tensor(0.5), {1: [path, {"a": path}]}


def of_training() -> tuple[dict[str, Any], Values]:
    """Returns what Lightning saves, with objects of classes of its own, and the tensors of the network in it."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.Adam(network.parameters())
    network[2](network[1](network[0](torch.randn(2, 3, 6, 6))).mean((2, 3))).sum().backward()
    optimizer.step()
    callback = ModelCheckpoint("a/b.ckpt")
    return {
        "epoch": 3, "global_step": 12, "pytorch-lightning_version": "1.4.2", "state_dict": network.state_dict(),
        "callbacks": {ModelCheckpoint: callback, "again": callback}, "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": types.SimpleNamespace(lr=0.1), "seed": np.float64(0.25),
        "means": np.arange(6.0).reshape(2, 3).T,
    }, {f"state_dict/{name}": value for name, value in network.state_dict().items()} | {
        "seed": torch.tensor(0.25, dtype=torch.float64), "means": torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T
    }  # fmt: skip


def main(folders: list[str]) -> None:
    """Writes the file."""
    torch.manual_seed(0)
    values, (training, of_network) = every_type(), of_training()
    older = OrderedDict((name, x) for name, x in values.items() if name not in LATER)  # of others torch cannot read it
    files = {"types.pth": saved(values), "types_older.pth": saved(older, _use_new_zipfile_serialization=False)}
    files["types_big.pth"] = swapped(files["types.pth"], values)
    wanted = {}
    for name, content in files.items():
        wanted[name] = described(older if "older" in name else values)
        found = described(torch.load(io.BytesIO(content), weights_only=True))
        differ = {path for path in found.keys() | wanted[name] if found.get(path) != wanted[name].get(path)}
        assert differ <= ({"uint16", "uint32", "uint64"} if "big" in name else set()), (
            name,
            differ,
        )  # torch swaps none
    for name, options in {
        "training.ckpt": {},
        "training_older.ckpt": {"_use_new_zipfile_serialization": False},
    }.items():
        files[name] = saved(training, **options)
        wanted[name] = described(of_network)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    files["module.pt"], wanted["module.pt"] = saved(network), described(of_module(network))
    for folder in folders:
        name = f"{pathlib.Path(folder).name}.pkl"
        files[name], wanted[name] = of_authors(folder)
    contents = {f"file/{name}": np.frombuffer(content, np.uint8) for name, content in files.items()}
    np.savez_compressed(FILE, wanted=json.dumps(wanted), **contents)


if __name__ == "__main__":
    main(sys.argv[1:])
