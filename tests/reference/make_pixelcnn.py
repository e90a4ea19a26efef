"""Makes pixelcnn.npz: what a port of PixelCNN++ to torch computes, for tests/autoregressive/.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy
    git clone https://github.com/pclucas14/pixel-cnn-pp ../pixel-cnn-pp
    .venv-torch/bin/python tests/reference/make_pixelcnn.py ../pixel-cnn-pp

The port's network and its mixture losses, for colours and for grey, are called as they are, in float64; only a
statement of Python 2 and the moves to a GPU are taken out as the files are read. Weights follow from their names
(tests/drawn_weights.py); the file has these, outputs, and gradients of half their squared sum to the input.
"""

from __future__ import annotations

import pathlib
import sys
import types

import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import drawn_weights  # noqa: E402

WIDTH, COMPONENTS, SIDE = 4, 2, 8


def port(folder: pathlib.Path) -> types.ModuleType:
    """The module `model` of the clone, which imports the two others."""
    for name in ("utils", "layers", "model"):
        source = (folder / f"{name}.py").read_text().replace("print e", "print(e)").replace(".cuda()", "")
        sys.modules[name] = types.ModuleType(name)
        exec(compile(source.replace("import pdb", ""), name, "exec"), sys.modules[name].__dict__)
    return sys.modules["model"]


def levels(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Images at levels of 8 bits, the outermost among them."""
    drawn = np.clip(np.round(127.5 + 90 * drawn_weights.normal(name, shape)), 0, 255)
    return torch.from_numpy(drawn / 127.5 - 1)


def network(model: types.ModuleType) -> dict[str, np.ndarray]:
    """Of a network with one block a level."""
    net = model.PixelCNN(nr_resnet=1, nr_filters=WIDTH, nr_logistic_mix=COMPONENTS, input_channels=3).eval()
    names = []
    for name, parameter in net.named_parameters():
        drawn = drawn_weights.normal(name, tuple(parameter.shape))
        drawn = 1 + 0.3 * drawn if name.endswith("_g") else 0.3 * drawn if name.endswith("bias") else drawn
        parameter.data = torch.from_numpy(drawn)
        names.append(f"{name} {','.join(map(str, parameter.shape))}")
    x = levels("x", (2, 3, SIDE, SIDE)).requires_grad_()
    out = net(x)
    (gradient,) = torch.autograd.grad((out**2).sum() / 2, x)
    found = {"x": x, "out": out, "gradient": gradient}
    return {"names": np.array(names)} | {name: value.detach().numpy() for name, value in found.items()}


def mixture(model: types.ModuleType, channels: int) -> dict[str, np.ndarray]:
    """Of the loss, in nats of all images together, for outputs of any kind; its gradient to them."""
    numbers = {1: 3, 3: 10}[channels] * 5
    x = levels("x", (3, channels, 4, 4))
    out = torch.from_numpy(drawn_weights.normal("out", (3, numbers, 4, 4))).requires_grad_()
    loss = {1: model.discretized_mix_logistic_loss_1d, 3: model.discretized_mix_logistic_loss}[channels](x, out)
    (gradient,) = torch.autograd.grad(loss, out)
    found = {"x": x, "out": out, "loss": loss, "gradient": gradient}
    return {name: value.detach().numpy() for name, value in found.items()}


def main() -> None:
    """Writes the file."""
    torch.set_default_dtype(torch.float64)
    model = port(pathlib.Path(sys.argv[1]))
    found = {"versions": np.array(str({"torch": torch.__version__, "numpy": np.__version__}))}
    cases = {"network": network(model), "grey": mixture(model, 1), "colours": mixture(model, 3)}
    for case, arrays in cases.items():
        found |= {f"{case}/{name}": value for name, value in arrays.items()}
    np.savez_compressed(FOLDER / "pixelcnn.npz", **found)


if __name__ == "__main__":
    main()
