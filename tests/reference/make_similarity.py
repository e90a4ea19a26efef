"""Reference values from scikit-image and pytorch-msssim for `test_images.py`: PSNR, SSIM and MS-SSIM.

    python3.11 -m venv .venv-similarity
    .venv-similarity/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    .venv-similarity/bin/pip install --no-deps pytorch-msssim==1.0.0
    .venv-similarity/bin/pip install numpy==2.4.6 scikit-image==0.26.0
    .venv-similarity/bin/python tests/reference/make_similarity.py

Writes similarity.npz beside this file. The images are made from seeds by `pairs`, which the test repeats, so only the
results are stored; computed in float64. The sides are multiples of 16: at odd sides pytorch-msssim averages with a
border of zeros.
"""

from __future__ import annotations

import pathlib

import numpy as np
import pytorch_msssim
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

FILE = pathlib.Path(__file__).parent / "similarity.npz"
CASES = {"small": (0, (3, 24, 33, 3)), "large": (1, (3, 176, 192, 1))}  # name: seed, shape


def pairs(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random uint8 images [N H W C], and the same with noise that grows with the index."""
    random = np.random.RandomState(seed)
    n, h, w, c = shape
    coarse = random.randint(0, 256, (n, h // 8 + 1, w // 8 + 1, c))
    first = coarse.repeat(8, 1).repeat(8, 2)[:, :h, :w] // 2 + random.randint(0, 128, shape)
    amount = 20 * (1 + np.arange(n)).reshape(-1, 1, 1, 1)
    second = first + random.randint(-100, 101, shape) * amount // 100
    return first.astype(np.uint8), second.clip(0, 255).astype(np.uint8)


def main() -> None:
    """Computes and writes all values, each [N]."""
    torch.set_default_dtype(torch.float64)
    values = {}
    for name, (seed, shape) in CASES.items():
        first, second = pairs(seed, shape)
        x, y = (torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float64) for images in (first, second))
        values[f"{name}/psnr"] = [
            peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(first, second, strict=True)
        ]
        values[f"{name}/ssim_torch"] = pytorch_msssim.ssim(x, y, data_range=255, size_average=False).numpy()
        values[f"{name}/ssim_skimage"] = [
            structural_similarity(
                a.astype(np.float64),
                b.astype(np.float64),
                data_range=255,
                channel_axis=-1,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for a, b in zip(first, second, strict=True)
        ]
        if min(shape[1:3]) > 160:
            values[f"{name}/ms_ssim_torch"] = pytorch_msssim.ms_ssim(x, y, data_range=255, size_average=False).numpy()
    np.savez_compressed(FILE, **{name: np.asarray(value, np.float64) for name, value in values.items()})


if __name__ == "__main__":
    main()
