"""Makes torch_dit.npz: what DiT computes in torch, for tests/nn/backbones/test_dit.py.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    .venv-torch/bin/python tests/reference/make_dit.py

The network follows Peebles & Xie (2023, arXiv 2212.09748), with the names of its official code. Beside it: the second
time of MeanFlow (2505.13447), the long skips of U-ViT (2209.12152) and the cross-attention of PixArt (2310.00426). The
weights are random, and drawn from the parameters' names, so that the tests can draw them again.
"""

from __future__ import annotations

import pathlib
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLDER = pathlib.Path(__file__).parent
WIDTH, HEADS, PATCH, CHANNELS, CLASSES, TOKEN = 24, 3, 2, 3, 5, 7


class Time(nn.Module):
    """256 cosines and sines of a time, then two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, t: Tensor) -> Tensor:
        """[B] -> [B D]."""
        angle = t[:, None].double() / 10_000.0 ** (torch.arange(128).double() / 128)
        return self.mlp(torch.cat([angle.cos(), angle.sin()], dim=1).float())


class Attention(nn.Module):
    """Attention within a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B L D] -> [B L D]."""
        return self.proj(attended(*self.qkv(x).chunk(3, dim=-1)))


class CrossAttention(nn.Module):
    """Attention from a sequence to another."""

    def __init__(self) -> None:
        super().__init__()
        self.q_linear, self.kv_linear = nn.Linear(WIDTH, WIDTH), nn.Linear(TOKEN, 2 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """[B L D], [B M E], [B M] -> [B L D]."""
        return self.proj(attended(self.q_linear(x), *self.kv_linear(tokens).chunk(2, dim=-1), mask))


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Head by head: softmax(q k^T / sqrt(d)) v."""
    mixed = []
    for a, b, c in zip(*(x.chunk(HEADS, dim=-1) for x in (q, k, v)), strict=True):
        logits = a @ b.transpose(1, 2) / (WIDTH // HEADS) ** 0.5
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None], -torch.inf)
        mixed.append(logits.softmax(dim=-1) @ c)
    return torch.cat(mixed, dim=-1)


class Block(nn.Module):
    """A block with adaLN-Zero."""

    def __init__(self, skip: bool, cross: bool) -> None:
        super().__init__()
        self.skip_linear = nn.Linear(2 * WIDTH, WIDTH) if skip else None
        self.attn, self.cross_attn = Attention(), CrossAttention() if cross else None
        self.mlp = nn.Sequential()
        self.mlp.fc1, self.mlp.act, self.mlp.fc2 = (
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * WIDTH, WIDTH),
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, 6 * WIDTH))

    def forward(self, x: Tensor, c: Tensor, skip: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """[B L D] -> [B L D]."""
        if self.skip_linear is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.adaLN_modulation(c)[:, None].chunk(6, dim=-1)
        x = x + gate_1 * self.attn(modulate(x, shift_1, scale_1))
        if self.cross_attn is not None:
            x = x + self.cross_attn(x, tokens, mask)
        return x + gate_2 * self.mlp(modulate(x, shift_2, scale_2))


class Final(nn.Module):
    """The last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, PATCH**2 * 2 * CHANNELS)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, 2 * WIDTH))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """[B L D] -> [B L p*p*C]."""
        return self.linear(modulate(x, *self.adaLN_modulation(c)[:, None].chunk(2, dim=-1)))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """A layer norm without weights, then the condition's scale and shift."""
    return F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale) + shift


class DiT(nn.Module):
    """The whole network; `extras` are the second time, the skips and the cross-attention."""

    def __init__(self, depth: int, extras: bool) -> None:
        super().__init__()
        self.x_embedder = nn.Module()
        self.x_embedder.proj = nn.Conv2d(CHANNELS, WIDTH, PATCH, stride=PATCH)
        self.t_embedder, self.h_embedder = Time(), Time() if extras else None
        self.y_embedder = nn.Module()
        self.y_embedder.embedding_table = nn.Embedding(CLASSES + 1, WIDTH)
        self.blocks = nn.ModuleList(Block(extras and i > depth // 2, extras) for i in range(depth))
        self.final_layer = Final()

    def forward(self, x: Tensor, t: Tensor, y: Tensor, h: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """[B C H W] -> [B 2*C H W]."""
        c = self.t_embedder(t) + self.y_embedder.embedding_table(y)
        if self.h_embedder is not None:
            c = c + self.h_embedder(h)
        x = self.x_embedder.proj(x)
        rows, columns = x.shape[2:]
        x, left = x.flatten(2).transpose(1, 2) + positions(rows, columns), []
        for i, block in enumerate(self.blocks):
            skip = left.pop() if i > len(self.blocks) // 2 else None
            x = block(x, c, skip, tokens, mask)
            if i < len(self.blocks) // 2:
                left.append(x)
        x = self.final_layer(x, c).reshape(len(x), rows, columns, PATCH, PATCH, 2 * CHANNELS)
        return torch.einsum("nhwpqc->nchpwq", x).reshape(len(x), 2 * CHANNELS, rows * PATCH, columns * PATCH)


def positions(rows: int, columns: int) -> Tensor:
    """[L D]: sines and cosines of the column, then of the row."""
    omega = 10_000.0 ** -(torch.arange(WIDTH // 4).double() / (WIDTH // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    parts = [f(axis.flatten()[:, None] * omega) for axis in (column, row) for f in (torch.sin, torch.cos)]
    return torch.cat(parts, dim=1).float()


def computed(depth: int, extras: bool) -> dict[str, np.ndarray]:
    """Names of weights, the output for fixed inputs, and the gradient of its squared sum."""
    network = DiT(depth, extras)
    names = []
    for name, parameter in network.named_parameters():
        fan_in = np.prod(parameter.shape[1:]) if parameter.ndim > 1 and "embedding" not in name else 1
        drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(parameter.shape)
        parameter.data = torch.from_numpy(drawn / np.sqrt(fan_in)).float()
        names.append(f"{name} {','.join(map(str, parameter.shape))}")
    inputs = {
        "x": torch.randn((2, CHANNELS, 8, 6)).requires_grad_(),
        "t": torch.tensor([0.25, 40.0]),
        "y": torch.tensor([3, CLASSES]),
        "h": torch.tensor([0.125, 2.0]),
        "tokens": torch.randn((2, 4, TOKEN)),
        "mask": torch.tensor([[True, True, False, True], [True, False, False, False]]),
    }
    out = network(*inputs.values())
    (gradient,) = torch.autograd.grad((out**2).sum(), inputs["x"])
    tensors = inputs | {"out": out, "gradient": gradient}
    return {"names": np.array(names)} | {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def main() -> None:
    """Writes the file."""
    torch.manual_seed(0)
    found = {"versions": np.array(str({"torch": torch.__version__, "numpy": np.__version__}))}
    for case, (depth, extras) in {"plain": (2, False), "extras": (3, True)}.items():
        found |= {f"{case}/{key}": value for key, value in computed(depth, extras).items()}
    np.savez_compressed(FOLDER / "torch_dit.npz", **found)


if __name__ == "__main__":
    main()
