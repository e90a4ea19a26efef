"""Reference values for `test_features.py`, from pytorch-fid, clean-fid, torch-fidelity and prdc.

    python3.11 -m venv .venv-metrics
    .venv-metrics/bin/pip install torch==2.13.0 numpy scipy scikit-learn tqdm requests pillow
    .venv-metrics/bin/pip install --no-deps pytorch-fid==0.3.0 torch-fidelity==0.4.0 clean-fid==0.1.35 prdc==0.2
    .venv-metrics/bin/python tests/reference/make_metrics.py

Writes metrics.npz beside this file: random features and logits, and what the packages make of them. They import
torchvision for their networks and data sets, which nothing here uses: names that import in its place are enough.
"""

from __future__ import annotations

import importlib.metadata
import pathlib
import sys
import types

import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent
PACKAGES = ("pytorch-fid", "torch-fidelity", "clean-fid", "prdc", "numpy", "scipy", "scikit-learn", "torch")
SUBSETS, SUBSET_SIZE, SPLITS, NEIGHBOURS = 20, 100, 7, 5


class Nameless(types.ModuleType):
    """A module of which any name can be imported: modules that were replaced too, and else empty classes."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> types.ModuleType | type:
        """What the name stands for; inspection of modules asks for names with underscores, which there are none of."""
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}") or type(name, (), {})


def replace_torchvision() -> None:
    """Lets `import torchvision` succeed."""
    used = ("datasets", "models", "models.inception", "models.utils", "transforms", "transforms.functional")
    names = ("", *(f".{name}" for name in used))
    sys.modules |= {f"torchvision{name}": Nameless(f"torchvision{name}") for name in names}


def features() -> dict[str, np.ndarray]:
    """Two sets of correlated, positive features [N 64], 310 and 300 samples, and logits [310 10]; float32 is stored."""
    random = np.random.RandomState(0)
    mixing = random.randn(64, 64) / 8
    fake = np.abs(random.randn(310, 64) @ mixing + 0.1)
    real = np.abs(random.randn(300, 64) @ mixing * 0.9 + 0.2)
    found = {"fake": fake, "real": real, "logits": 3 * random.randn(310, 10)}
    return {name: x.astype(np.float32) for name, x in found.items()}


def scores(fake: np.ndarray, real: np.ndarray, logits: np.ndarray) -> dict[str, np.ndarray]:
    """The packages' values, in float64 where they leave the choice."""
    import cleanfid.fid
    import prdc
    import pytorch_fid.fid_score
    import torch_fidelity.metric_fid
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    singles = fake, real
    fake, real, logits = (x.astype(np.float64) for x in (fake, real, logits))
    statistics = [value for x in (fake, real) for value in (x.mean(0), np.cov(x, rowvar=False))]
    tf = torch_fidelity.metric_fid
    torch_statistics = [tf.fid_features_to_statistics(torch.tensor(x)) for x in (fake, real)]
    found = {
        "fid_pytorch_fid": pytorch_fid.fid_score.calculate_frechet_distance(*statistics),
        "fid_clean_fid": cleanfid.fid.frechet_distance(*statistics),
        "fid_torch_fidelity": tf.fid_statistics_to_metric(*torch_statistics, False)["frechet_inception_distance"],
    }
    kid = kid_features_to_metric(
        torch.tensor(fake),
        torch.tensor(real),
        kid_subsets=SUBSETS,
        kid_subset_size=SUBSET_SIZE,
        rng_seed=2020,
        verbose=False,
    )
    found["kid"] = [kid["kernel_inception_distance_mean"], kid["kernel_inception_distance_std"]]
    for shuffle in (False, True):
        score = isc_features_to_metric(torch.tensor(logits), SPLITS, shuffle, 2020)
        found[f"inception_score_{shuffle}"] = [score["inception_score_mean"], score["inception_score_std"]]
    for name, (x, y) in (("prdc", (fake, real)), ("prdc_float32", singles)):
        four = prdc.compute_prdc(y, x, NEIGHBOURS)
        found[name] = [four[which] for which in ("precision", "recall", "density", "coverage")]
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def main() -> None:
    """Writes the file."""
    replace_torchvision()
    arrays = features()
    sizes = {"subsets": SUBSETS, "subset_size": SUBSET_SIZE, "splits": SPLITS, "neighbours": NEIGHBOURS}
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    np.savez_compressed(FOLDER / "metrics.npz", versions=str(versions), **arrays, **sizes, **scores(**arrays))


if __name__ == "__main__":
    main()
