"""Reference values from pytorch-fid, lpips, Pillow and torch for `test_extractors.py`.

    python3.11 -m venv .venv-extractors
    .venv-extractors/bin/pip install torch==2.13.0 numpy pillow scipy tqdm
    .venv-extractors/bin/pip install --no-deps torchvision==0.28.0 pytorch-fid==0.3.0 lpips==0.1.4
    .venv-extractors/bin/python tests/reference/make_extractors.py

Writes extractors.npz beside this file. Torch's CPU build is enough; torchvision gives only the networks' layouts, so
the two operators that its Python code asks for are declared where its compiled part does not load. The weights are
random by `random_weight`, which the tests repeat: only outputs are kept.
"""

from __future__ import annotations

import contextlib
import io
import math
import pathlib
import zlib

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

FILE = pathlib.Path(__file__).parent / "extractors.npz"
SHAPES = (((32, 32), 75), ((24, 40), 17), ((13, 9), 33), ((33, 21), 32), ((16, 16), 16))  # of images, and to what size

for operator in ("nms", "qnms"):
    with contextlib.suppress(RuntimeError):
        torch.library.define(f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")

import lpips  # noqa: E402  after the operators
import torchvision  # noqa: E402
from pytorch_fid import inception  # noqa: E402


def random_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight that follows from its name and shape (in torch's layout), of a size at which every layer matters."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) == 1:  # biases, means, and the scales of normalisations
        return generator.normal(1.0 if name.endswith("bn.weight") else 0.0, 0.2, shape).astype(np.float32)
    return generator.normal(0.0, math.sqrt(2 / math.prod(shape[1:])), shape).astype(np.float32)


def randomised(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state dict for the network's names and shapes; counters stay."""
    state = network.state_dict()
    return {n: torch.from_numpy(random_weight(n, tuple(t.shape))) if t.ndim else t for n, t in state.items()}


def resizes() -> dict[str, np.ndarray]:
    """Images, and what Pillow and torch make of them."""
    generator = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for number, ((height, width), size) in enumerate(SHAPES):
        image = generator.integers(0, 256, (height, width, 3), np.uint8)
        channels = [Image.fromarray(image[..., c].astype(np.float32), mode="F") for c in range(3)]
        resized = [np.asarray(channel.resize((size, size), Image.Resampling.BICUBIC)) for channel in channels]
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        found |= {
            f"resize/{number}/image": image,
            f"resize/{number}/clean": np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)),
            f"resize/{number}/clean_float": np.stack(resized, -1).clip(0, 255),
            f"resize/{number}/legacy_torch": F.interpolate(x, (size, size), mode="bilinear")[0]
            .permute(1, 2, 0)
            .numpy(),
        }
    return found


def inception_taps() -> dict[str, np.ndarray]:
    """pytorch-fid's network on two images at 299 x 299; the lower taps as means over all positions."""
    plain = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, init_weights=False)
    state = randomised(plain)
    inception.load_state_dict_from_url = lambda *_, **__: state
    network = inception.InceptionV3((0, 1, 2, 3)).eval()
    spatial = []
    network.blocks[2][6].branch1x1.register_forward_hook(lambda *arguments: spatial.append(arguments[2][:, :7]))
    images = smooth_images(2, 64)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        *lower, last = network(x)
        logits = F.linear(last[:, :, 0, 0], state["fc.weight"], state["fc.bias"])
    found = {f"features_{t.shape[1]}": t.mean((2, 3)) for t in lower}
    found |= {"features": last[:, :, 0, 0], "spatial": spatial[0].permute(0, 2, 3, 1).flatten(1), "logits": logits}
    found["logits_unbiased"] = F.linear(last[:, :, 0, 0], state["fc.weight"])
    parameters = sum(p.numel() for p in plain.parameters())
    return {"inception/images": images, "inception/parameters": np.int64(parameters)} | {
        f"inception/{n}": t.numpy() for n, t in found.items()
    }


def lpips_distances() -> dict[str, np.ndarray]:
    """lpips.LPIPS with its own heads on random towers, for two pairs of images."""
    images = smooth_images(4, 64)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    found = {"lpips/images": images}
    for tower in ("alex", "vgg"):
        metric = lpips.LPIPS(net=tower, pnet_rand=True, verbose=False).eval()
        # The tower keeps torchvision's numbers, "slice1.0.weight" for torchvision's "features.0.weight".
        names = {n: f"features.{n.split('.', 1)[1]}" for n in metric.net.state_dict()}
        shapes = {n: tuple(t.shape) for n, t in metric.net.state_dict().items()}
        metric.net.load_state_dict({n: torch.from_numpy(random_weight(names[n], shapes[n])) for n in names})
        with torch.no_grad():
            found[f"lpips/{tower}"] = metric(x[:2], x[2:])[:, 0, 0, 0].numpy()
    return found


def state_dicts() -> dict[str, np.ndarray]:
    """One state dict as torch saves it in both of its formats, byte by byte, and its arrays."""
    state = randomised(torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)))
    found = {f"state/{name}": tensor.numpy() for name, tensor in state.items()}
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    network.load_state_dict(state)
    saved = network.state_dict()  # an OrderedDict with attributes, as files of weights have it
    saved["0.bias"] = torch.nn.Parameter(saved["0.bias"])
    for name, new in (("zip", True), ("older", False)):
        buffer = io.BytesIO()
        torch.save(saved, buffer, _use_new_zipfile_serialization=new)
        found[f"file/{name}"] = np.frombuffer(buffer.getvalue(), np.uint8)
    return found


def smooth_images(count: int, size: int) -> np.ndarray:
    """uint8 images with large and small structure."""
    generator = np.random.default_rng(count)
    coarse = generator.integers(0, 256, (count, 4, 4, 3), np.uint8)
    large = np.stack([np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in coarse])
    return np.clip(large + generator.normal(0, 12, large.shape), 0, 255).astype(np.uint8)


def main() -> None:
    """Writes the file."""
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "numpy": np.__version__}
    np.savez_compressed(
        FILE, versions=str(versions), **resizes(), **inception_taps(), **lpips_distances(), **state_dicts()
    )


if __name__ == "__main__":
    main()
