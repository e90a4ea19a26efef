"""What teaches a finished run a class of which there are a few images, so that it neither copies them nor forgets.

Weights stay as they are, and low-rank pairs are trained beside them (Hu et al. 2021, arXiv 2106.09685); half of each
batch are images that the run has seen, so that their classes stay; the few are warped a little each time, so that they
cannot be learned by heart; and training is short. `docs/measured.md` has what came of it.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

from imagegen_jax.core.arrays.lora import LoRA, kernels_of, rank_of
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.experiment import Experiment, abstract_nets, row_shapes
from imagegen_jax.core.model import Model
from imagegen_jax.core.model import num_classes as known_classes
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Source
from imagegen_jax.data.wrappers.with_few import WithFew
from imagegen_jax.nn.affine import SmallWarps
from imagegen_jax.nn.backbones.denoising import OwnLabelRows
from imagegen_jax.recipes.fit import model_for_images

RANK = 4
STEPS = 300
BATCH = 64
RATE = 2e-3


def with_few(experiment: Experiment, folder: pathlib.Path, few: Source, name: str = "new") -> Experiment:
    """Makes what goes on from the run in `folder`, of `experiment`, with the classes of `few` beside those it knows.

    Where `few` has no classes, all are of a new one called `name`. Raises ValueError where the run's model knows no
    classes, or `few` has no new one, and what opening the data raises.
    """
    known = known_classes(experiment.model)
    if not known:
        raise ValueError(f"{folder}: its model knows no classes, so that none can be added: train one that does")
    data = WithFew(experiment.data, few, name=name)
    dataset = data.open()
    new = dataset.num_classes - known
    if new < 1:
        raise ValueError(f"{few}: {folder} knows its classes already: give the folders of new ones other names")
    model = model_for_images(experiment.model, dataset.image_shape, dataset.num_classes)
    nets = abstract_nets(model, row_shapes(dataset))
    return dataclasses.replace(
        experiment,
        name=f"{experiment.name}_with_few",
        model=model,
        data=data,
        augment=(*experiment.augment, SmallWarps(tuple(range(known, known + new)))),
        pretrained={**experiment.pretrained, **{name: _weights(model, name, folder, new) for name in experiment.optim}},
        lora=LoRA(RANK, kernels=_layers({name: nets[name]["params"] for name in experiment.optim})),
        **_short(experiment.optim),
    )


def _weights(model: Model, name: str, folder: pathlib.Path, new: int) -> FromRun:
    """Returns a network of the run, with rows for new classes as it reads them."""
    network = getattr(model, name, None)
    rows = network.label_rows if isinstance(network, OwnLabelRows) else FromRun.label_rows
    return FromRun(str(folder), more_classes=new, label_rows=rows)


def _short(networks: Iterable[str]) -> dict[str, Any]:
    """Returns the fields of an experiment that make its training short."""
    return {
        "optim": {name: Adam(CosineDecay(RATE, warmup=20)) for name in networks},
        "averages": {"ema": HalfLife(images=20 * BATCH)}, "clip_norm": 1.0, "batch_size": BATCH, "steps": STEPS,
        "log_every": 20, "sample_every": STEPS // 2, "checkpoint_every": STEPS // 2, "evaluation": None,
    }  # fmt: skip


def _layers(weights: object) -> tuple[str, ...]:
    """Returns the names of layers all of whose kernels have the rank."""
    ranks: dict[str, int] = {}
    for path, shape in kernels_of(weights).items():
        ranks[path[-2]] = min(ranks.get(path[-2], RANK), rank_of(shape))
    return tuple(sorted(name for name, rank in ranks.items() if rank >= RANK))
