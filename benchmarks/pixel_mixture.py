"""The baseline from before neural networks: a mixture of Gaussians fitted to pixels, and images drawn from it.

    python benchmarks/pixel_mixture.py tfds:mnist --samples 5000 --out mixture.npz --grid mixture.png
    imagegen evaluate mixture.npz tfds:mnist

The pixels of the training images are projected on their leading principal components, scaled to unit variance; there
scikit-learn fits a mixture with full covariances, from k-means on, for at most 20 steps of EM. What is drawn goes back
to pixels, rounded and clipped to 0..255. The variance outside the components is left out, not put back as noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
import time
import warnings

import numpy as np
from jaxtyping import UInt8
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from imagegen_jax.core.drawing.grid import grid, write_png
from imagegen_jax.data import parse_source

COMPONENTS, DIMENSIONS = 100, 64
EM_STEPS = 20
FLOOR = 1e-3  # added to each variance, as a share of the whole's: few images in a component leave some at 0


@dataclasses.dataclass(frozen=True)
class PixelMixture:
    """A mixture of Gaussians over the leading principal components of images of one shape."""

    image_shape: tuple[int, ...]
    projection: PCA
    mixture: GaussianMixture

    @classmethod
    def fit(
        cls,
        images: UInt8[np.ndarray, "n h w c"],
        components: int = COMPONENTS,
        dimensions: int = DIMENSIONS,
        seed: int = 0,
    ) -> PixelMixture:
        """The mixture of these images. Raises ValueError as scikit-learn does, where there are too few of them."""
        rows = images.reshape(len(images), -1) / np.float32(255)
        projection = PCA(dimensions, whiten=True, random_state=seed).fit(rows)
        mixture = GaussianMixture(components, max_iter=EM_STEPS, reg_covar=FLOOR, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(projection.transform(rows))
        return cls(images.shape[1:], projection, mixture)

    def sample(self, n: int, seed: int = 0) -> UInt8[np.ndarray, "n h w c"]:
        """`n` images."""
        random = np.random.default_rng(seed)
        weights = self.mixture.weights_.astype(np.float64)
        which = random.choice(len(weights), n, p=weights / weights.sum())
        z = random.standard_normal((n, self.projection.n_components_))
        for k, (mean, covariance) in enumerate(zip(self.mixture.means_, self.mixture.covariances_, strict=True)):
            z[which == k] = mean + z[which == k] @ np.linalg.cholesky(covariance.astype(np.float64)).T
        rows = self.projection.inverse_transform(z)
        return np.clip(np.round(255 * rows), 0, 255).astype(np.uint8).reshape(n, *self.image_shape)

    def log_likelihood(self, images: UInt8[np.ndarray, "n h w c"]) -> float:
        """The mean of log p in nats, in the space of the components: to choose their number by held-out images."""
        return float(self.mixture.score(self.projection.transform(images.reshape(len(images), -1) / np.float32(255))))


def main() -> None:
    """Fits, draws, and writes what was drawn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="digits, a TFDS name, a folder, a .zip or an .npz")
    parser.add_argument("--size", type=int, help="height and width that images are brought to")
    parser.add_argument("--channels", type=int, help="1 grey, 3 RGB")
    parser.add_argument("--split", help="the split to fit, where the source has splits")
    parser.add_argument("--components", type=int, default=COMPONENTS, help=f"Gaussians (default: {COMPONENTS})")
    parser.add_argument("--dimensions", type=int, default=DIMENSIONS, help=f"of the projection (default: {DIMENSIONS})")
    parser.add_argument("--samples", type=int, default=5000, help="images to draw (default: 5,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", help="a split whose likelihood to print")
    parser.add_argument("--out", type=pathlib.Path, help="an .npz of the images, which `imagegen evaluate` reads")
    parser.add_argument("--grid", type=pathlib.Path, help="a .png of the first 100")
    options = parser.parse_args()
    source = parse_source(options.source, options.size, options.channels, options.split)
    images, start = source.open().images, time.perf_counter()
    model = PixelMixture.fit(images, options.components, options.dimensions, options.seed)
    kept = model.projection.explained_variance_ratio_.sum()
    print(
        f"{len(images):,} images: {model.mixture.n_components} components in {model.projection.n_components_} "
        f"dimensions, which hold {kept:.1%} of the variance; {model.mixture.n_iter_} steps of EM, "
        f"{time.perf_counter() - start:.0f} s; log p {model.log_likelihood(images):.3f} nats",
        file=sys.stderr,
    )
    if options.held_out:
        held_out = dataclasses.replace(source, split=options.held_out).open().images
        print(f"held out, {options.held_out}: log p {model.log_likelihood(held_out):.3f} nats", file=sys.stderr)
    drawn = model.sample(options.samples, options.seed)
    if options.out:
        np.savez_compressed(options.out, image=drawn)
    if options.grid:
        write_png(options.grid, grid(drawn[:100], 10))


if __name__ == "__main__":
    main()
