"""Makes diffusion_networks.npz: what tiny networks of ADM, EDM, VDM and EDM2 compute, for test_networks.py.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    .venv-torch/bin/python tests/reference/make_diffusion_networks.py

The networks are written down here for torch in float64, as their papers and official code define them
(openai/guided-diffusion, NVlabs/edm, google-research/vdm, NVlabs/edm2), with random weights that the tests draw again.
Weights have the names of ours and the layouts of torch: kernels [out in height width] and [out in], images [B C H W].
"""

from __future__ import annotations

import math
import pathlib
import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FOLDER = pathlib.Path(__file__).parent
WIDTH, LEVELS, HEADS = 16, (1, 2), 2  # two levels of one block; attention at the lower one, of 4x4 pixels


class Weights:
    """Random weights by name: NumPy promises that `RandomState` draws the same forever."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        self.shapes[name] = shape
        drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        return torch.as_tensor(drawn / math.sqrt(np.prod(shape[1:])))


# --- layers ----------------------------------------------------------------------------------------------------------


def conv(w: Weights, x: Tensor, name: str, features: int, stride: int = 1) -> Tensor:
    kernel = w(f"{name}/kernel", features, x.shape[1], 3, 3)
    return F.conv2d(x, kernel, w(f"{name}/bias", features), stride, padding=1)


def linear(w: Weights, x: Tensor, name: str, features: int, bias: bool = True) -> Tensor:
    """Over the channels of [B C] or of pixels [B C H W]."""
    y = torch.einsum("bc...,oc->bo...", x, w(f"{name}/kernel", features, x.shape[1]))
    return y + w(f"{name}/bias", features).reshape(-1, *[1] * (x.ndim - 2)) if bias else y


def norm(w: Weights, x: Tensor, name: str, epsilon: float) -> Tensor:
    c = x.shape[1]
    return F.group_norm(x, min(32, c // 4), w(f"{name}/scale", c), w(f"{name}/bias", c), epsilon)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """[B C L] each."""
    q, k, v = (a.reshape(a.shape[0], heads, -1, a.shape[2]).transpose(2, 3) for a in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(2, 3).flatten(1, 2)


def attention(w: Weights, x: Tensor, name: str, heads: int, epsilon: float) -> Tensor:
    h = norm(w, x, f"{name}/norm", epsilon)
    q, k, v = (linear(w, h, f"{name}/{part}", x.shape[1]).flatten(2) for part in ("query", "key", "value"))
    return x + linear(w, attend(q, k, v, heads).reshape(x.shape), f"{name}/out", x.shape[1])


def resampled(x: Tensor, taps: tuple[int, ...], change: str, padding: int | None = None) -> Tensor:
    """EDM's resampling: the outer product of the taps, as a depthwise convolution or a transposed one."""
    f, c = torch.tensor(taps, dtype=x.dtype), x.shape[1]
    f = torch.outer(f, f) / f.sum() ** 2
    padding = (len(taps) - 1) // 2 if padding is None else padding
    if change == "up":
        return F.conv_transpose2d(x, (4 * f).expand(c, 1, -1, -1), stride=2, padding=padding, groups=c)
    return F.conv2d(x, f.expand(c, 1, -1, -1), stride=2, padding=padding, groups=c)


def sinusoidal(t: Tensor, width: int, last: int) -> Tensor:
    """Sines, then cosines, at frequencies 10000^(-i / last)."""
    angle = t[:, None] * 10_000.0 ** (-torch.arange(width // 2, dtype=t.dtype) / last)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# --- ADM and improved DDPM -------------------------------------------------------------------------------------------


def adm_block(
    w: Weights, x: Tensor, y: Tensor, name: str, c: int, heads: int = 0, change: str = "", scale_shift: bool = True
) -> Tensor:
    def resize(h: Tensor) -> Tensor:
        if change == "down":
            return F.avg_pool2d(h, 2)
        return F.interpolate(h, scale_factor=2, mode="nearest") if change else h

    h = conv(w, resize(F.silu(norm(w, x, f"{name}/norm_1", 1e-5))), f"{name}/conv_1", c)
    y = linear(w, F.silu(y), f"{name}/embed", 2 * c if scale_shift else c)[:, :, None, None]
    if scale_shift:
        scale, shift = y.chunk(2, dim=1)
        h = norm(w, h, f"{name}/norm_2", 1e-5) * (1 + scale) + shift
    else:
        h = norm(w, h + y, f"{name}/norm_2", 1e-5)
    h = conv(w, F.silu(h), f"{name}/conv_2", c)
    x = resize(x)
    h = h + (x if x.shape[1] == c else linear(w, x, f"{name}/shortcut", c))
    return attention(w, h, f"{name}/attention", heads, 1e-5) if heads else h


def adm(
    w: Weights, x: Tensor, t: Tensor, labels: Tensor, source: Tensor | None = None, improved: bool = False
) -> Tensor:
    """ADM's U-Net, or with `improved` that of improved DDPM with its simplest options."""
    y = adm_embedding(w, t) + linear(w, labels, "label", 4 * WIDTH, bias=False)
    h = x if source is None else torch.cat([x, F.interpolate(source, x.shape[2:], mode="bilinear")], dim=1)
    h, states = adm_down(w, h, y, improved)
    for level, multiplier in reversed(tuple(enumerate(LEVELS))):
        for i in (0, 1):
            h, c, heads = torch.cat([h, states.pop()], dim=1), WIDTH * multiplier, HEADS * level
            h = adm_block(w, h, y, f"up_{level}_{i}", c, heads, scale_shift=not improved)
        if level > 0 and improved:
            h = conv(w, F.interpolate(h, scale_factor=2, mode="nearest"), f"up_{level}", h.shape[1])
        elif level > 0:
            h = adm_block(w, h, y, f"up_{level}", h.shape[1], change="up")
    return conv(w, F.silu(norm(w, h, "norm_out", 1e-5)), "conv_out", 2 * x.shape[1])


def adm_embedding(w: Weights, t: Tensor) -> Tensor:
    y = linear(w, sinusoidal(t, WIDTH, WIDTH // 2), "time_0", 4 * WIDTH)
    return linear(w, F.silu(y), "time_1", 4 * WIDTH)


def adm_down(w: Weights, h: Tensor, y: Tensor, improved: bool) -> tuple[Tensor, list[Tensor]]:
    states = [conv(w, h, "conv_in", WIDTH)]
    for level, multiplier in enumerate(LEVELS):
        h = states[-1]
        if level > 0 and improved:
            states.append(conv(w, h, f"down_{level}", h.shape[1], stride=2))
        elif level > 0:
            states.append(adm_block(w, h, y, f"down_{level}", h.shape[1], change="down"))
        c, heads = WIDTH * multiplier, HEADS * level
        states.append(adm_block(w, states[-1], y, f"down_{level}_0", c, heads, scale_shift=not improved))
    h = adm_block(w, states[-1], y, "middle_0", c, HEADS, scale_shift=not improved)
    return adm_block(w, h, y, "middle_1", c, scale_shift=not improved), states


def adm_classifier(w: Weights, x: Tensor, t: Tensor) -> Tensor:
    h, _ = adm_down(w, x, adm_embedding(w, t), improved=False)
    h = F.silu(norm(w, h, "norm_out", 1e-5)).flatten(2)
    h = torch.cat([h.mean(dim=2, keepdim=True), h], dim=2)
    h = h + w("pool/position", *h.shape[1:])
    q, k, v = (linear(w, h[..., None], f"pool/{part}", h.shape[1])[..., 0] for part in ("query", "key", "value"))
    return linear(w, attend(q, k, v, HEADS)[..., None], "pool/out", 5)[:, :, 0, 0]


# --- DDPM++ and NCSN++ -----------------------------------------------------------------------------------------------


def song_block(
    w: Weights, x: Tensor, y: Tensor, name: str, c: int, taps: tuple[int, ...], attends: bool = False, change: str = ""
) -> Tensor:
    h = F.silu(norm(w, x, f"{name}/norm_1", 1e-6))
    h = conv(w, resampled(h, taps, change) if change else h, f"{name}/conv_1", c)
    h = h + linear(w, y, f"{name}/embed", c)[:, :, None, None]
    h = conv(w, F.silu(norm(w, h, f"{name}/norm_2", 1e-6)), f"{name}/conv_2", c)
    if change or x.shape[1] != c:
        x = linear(w, resampled(x, taps, change) if change else x, f"{name}/shortcut", c)
    h = (x + h) / math.sqrt(2)
    return attention(w, h, f"{name}/attention", 1, 1e-6) / math.sqrt(2) if attends else h


def song(w: Weights, x: Tensor, t: Tensor, labels: Tensor, augment_labels: Tensor, ncsn: bool) -> Tensor:
    """DDPM++, or with `ncsn` NCSN++."""
    taps = (1, 3, 3, 1) if ncsn else (1, 1)
    if ncsn:
        angle = 2 * math.pi * t[:, None] * w("fourier/f", WIDTH)
        y = torch.cat([angle.sin(), angle.cos()], dim=1)
    else:
        y = sinusoidal(t, WIDTH, WIDTH // 2 - 1)
    noise = y.shape[1]
    y = (
        y
        + linear(w, labels * math.sqrt(labels.shape[1]), "label", noise)
        + linear(w, augment_labels, "augment", noise, False)
    )
    y = F.silu(linear(w, F.silu(linear(w, y, "time_0", 4 * WIDTH)), "time_1", 4 * WIDTH))
    h = song_down(w, x, y, taps, ncsn)
    states = h[:]
    h = song_block(w, states[-1], y, "middle_0", WIDTH * LEVELS[-1], taps, attends=True)
    h = song_block(w, h, y, "middle_1", WIDTH * LEVELS[-1], taps)
    for level, multiplier in reversed(tuple(enumerate(LEVELS))):
        for i in (0, 1):
            h, attends = torch.cat([h, states.pop()], dim=1), level == 1 and i == 1
            h = song_block(w, h, y, f"up_{level}_{i}", WIDTH * multiplier, taps, attends)
        if level > 0:
            h = song_block(w, h, y, f"up_{level}", h.shape[1], taps, change="up")
    return conv(w, F.silu(norm(w, h, "norm_out", 1e-6)), "conv_out", x.shape[1])


def song_down(w: Weights, x: Tensor, y: Tensor, taps: tuple[int, ...], ncsn: bool) -> list[Tensor]:
    above, states = x, [conv(w, x, "conv_in", WIDTH)]
    for level, multiplier in enumerate(LEVELS):
        h = states[-1]
        if level > 0:
            h = song_block(w, h, y, f"down_{level}", h.shape[1], taps, change="down")
            if ncsn:  # convolved beyond the border, then filtered
                kernel = w(f"residual_{level}/kernel", h.shape[1], above.shape[1], 3, 3)
                seen = resampled(F.conv2d(above, kernel, padding=2), taps, "down", padding=0)
                h = above = (h + seen + w(f"residual_{level}/bias", h.shape[1])[:, None, None]) / math.sqrt(2)
            states.append(h)
        states.append(song_block(w, h, y, f"down_{level}_0", WIDTH * multiplier, taps, attends=level == 1))
    return states


# --- VDM -------------------------------------------------------------------------------------------------------------


def vdm_block(w: Weights, x: Tensor, y: Tensor, name: str) -> Tensor:
    h = conv(w, F.silu(norm(w, x, f"{name}/norm_1", 1e-6)), f"{name}/conv_1", WIDTH)
    h = h + linear(w, y, f"{name}/embed", WIDTH, bias=False)[:, :, None, None]
    h = conv(w, F.silu(norm(w, h, f"{name}/norm_2", 1e-6)), f"{name}/conv_2", WIDTH)
    return h + (x if x.shape[1] == WIDTH else linear(w, x, f"{name}/shortcut", WIDTH))


def vdm(w: Weights, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """Two layers down, and three up."""
    y = torch.cat([sinusoidal(1000 * (t + 13.3) / (5.0 + 13.3), WIDTH, WIDTH // 2 - 1), labels], dim=1)
    y = F.silu(linear(w, F.silu(linear(w, y, "time_0", 4 * WIDTH)), "time_1", 4 * WIDTH))
    angles = torch.cat([2**6 * 2 * math.pi * x, 2**7 * 2 * math.pi * x], dim=1)
    states = [conv(w, torch.cat([x, angles.sin(), angles.cos()], dim=1), "conv_in", WIDTH)]
    for i in (0, 1):
        states.append(vdm_block(w, states[-1], y, f"down_{i}"))
    h = attention(w, vdm_block(w, states[-1], y, "middle_0"), "attention", 1, 1e-6)
    h = vdm_block(w, h, y, "middle_1")
    for i in (0, 1, 2):
        h = vdm_block(w, torch.cat([h, states.pop()], dim=1), y, f"up_{i}")
    return x + conv(w, F.silu(norm(w, h, "norm_out", 1e-6)), "conv_out", x.shape[1])


# --- EDM2 ------------------------------------------------------------------------------------------------------------


def unit(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x / (|x| / sqrt(N) + 1e-4) over `dims`."""
    size = math.prod(x.shape[d] for d in dims)
    return x / (torch.linalg.vector_norm(x, dim=dims, keepdim=True) / math.sqrt(size) + 1e-4)


def mp_linear(w: Weights, x: Tensor, name: str, features: int, gain: Tensor | float = 1.0) -> Tensor:
    kernel = unit(w(f"{name}/kernel", features, x.shape[1]), (1,)) * gain / math.sqrt(x.shape[1])
    return torch.einsum("bc...,oc->bo...", x, kernel)


def mp_conv(w: Weights, x: Tensor, name: str, features: int, gain: Tensor | float = 1.0) -> Tensor:
    kernel = unit(w(f"{name}/kernel", features, x.shape[1], 3, 3), (1, 2, 3)) * gain / math.sqrt(9 * x.shape[1])
    return F.conv2d(x, kernel, padding=1)


def mp_silu(x: Tensor) -> Tensor:
    return F.silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    return torch.lerp(a, b, t) / math.sqrt((1 - t) ** 2 + t**2)


def mp_cat(a: Tensor, b: Tensor) -> Tensor:
    c = math.sqrt((a.shape[1] + b.shape[1]) / 0.5)
    return torch.cat([c / math.sqrt(a.shape[1]) * 0.5 * a, c / math.sqrt(b.shape[1]) * 0.5 * b], dim=1)


def edm2_block(
    w: Weights, x: Tensor, y: Tensor, name: str, c: int, encoder: bool, heads: int = 0, change: str = ""
) -> Tensor:
    x = resampled(x, (1, 1), change) if change else x
    if encoder:
        x = unit(x if x.shape[1] == c else mp_linear(w, x, f"{name}/shortcut", c), (1,))
    h = mp_conv(w, mp_silu(x), f"{name}/conv_1", c)
    scale = mp_linear(w, y, f"{name}/embed", c, w(f"{name}/gain")) + 1
    h = mp_conv(w, mp_silu(h * scale[:, :, None, None]), f"{name}/conv_2", c)
    if not encoder and x.shape[1] != c:
        x = mp_linear(w, x, f"{name}/shortcut", c)
    x = mp_sum(x, h, 0.3)
    if heads:
        parts = (mp_linear(w, x, f"{name}/{part}", c) for part in ("query", "key", "value"))
        q, k, v = (unit(part.reshape(len(x), heads, c // heads, -1), (2,)).flatten(1, 2) for part in parts)
        x = mp_sum(x, mp_linear(w, attend(q, k, v, heads).reshape(x.shape), f"{name}/out", c), 0.3)
    return x.clip(-256, 256)


def edm2(w: Weights, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    y = math.sqrt(2) * torch.cos(2 * math.pi * (t[:, None] * w("fourier/f", WIDTH) + w("fourier/phi", WIDTH)))
    y = mp_linear(w, y, "time", WIDTH * LEVELS[-1])
    y = mp_silu(mp_sum(y, mp_linear(w, labels * math.sqrt(labels.shape[1]), "label", y.shape[1]), 0.5))
    states = [mp_conv(w, torch.cat([x, torch.ones_like(x[:, :1])], dim=1), "conv_in", WIDTH)]
    for level, multiplier in enumerate(LEVELS):
        if level > 0:
            states.append(edm2_block(w, states[-1], y, f"down_{level}", states[-1].shape[1], True, change="down"))
        c, heads = WIDTH * multiplier, HEADS * level
        states.append(edm2_block(w, states[-1], y, f"down_{level}_0", c, True, heads))
    h = edm2_block(w, states[-1], y, "middle_0", c, False, HEADS)
    h = edm2_block(w, h, y, "middle_1", c, False)
    for level, multiplier in reversed(tuple(enumerate(LEVELS))):
        for i in (0, 1):
            h = edm2_block(w, mp_cat(h, states.pop()), y, f"up_{level}_{i}", WIDTH * multiplier, False, HEADS * level)
        if level > 0:
            h = edm2_block(w, h, y, f"up_{level}", h.shape[1], False, change="up")
    return mp_conv(w, h, "conv_out", x.shape[1], w("gain"))


# --- the file --------------------------------------------------------------------------------------------------------


def run(network: Callable[..., Tensor], **inputs: Tensor) -> dict[str, np.ndarray]:
    """The inputs, the output, the input's gradient of its sum of squares, and which weights there were."""
    w, x = Weights(), inputs.pop("x").clone().requires_grad_()
    y = network(w, x, **inputs)
    (y**2).sum().backward()
    names = np.array([f"{name} {','.join(map(str, shape))}" for name, shape in w.shapes.items()])
    found = {"x": x.detach(), **inputs, "y": y.detach(), "gradient": x.grad}
    return {key: value.float().numpy() for key, value in found.items()} | {"names": names}


def main() -> None:
    """Writes the file."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    x, low, augment = (torch.randn(shape).float().double() for shape in ((2, 3, 8, 8), (2, 3, 4, 4), (2, 9)))
    labels, steps, levels = torch.eye(5)[[1, 4]], torch.tensor([3.0, 700.0]), torch.tensor([-0.75, 0.5])
    edm = {"x": x, "t": levels, "labels": labels}
    runs = {
        "adm": run(adm, x=x, t=steps, labels=labels, source=low),
        "iddpm": run(lambda *a, **k: adm(*a, **k, improved=True), x=x, t=steps, labels=labels),
        "classifier": run(adm_classifier, x=x, t=steps),
        "ddpmpp": run(lambda *a, **k: song(*a, **k, ncsn=False), **edm, augment_labels=augment),
        "ncsnpp": run(lambda *a, **k: song(*a, **k, ncsn=True), **edm, augment_labels=augment),
        "vdm": run(vdm, **edm),
        "edm2": run(edm2, **edm),
    }
    flat = {f"{name}/{key}": value for name, found in runs.items() for key, value in found.items()}
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    np.savez_compressed(FOLDER / "diffusion_networks.npz", versions=str(versions), **flat)


if __name__ == "__main__":
    main()
