"""Makes official_maskgit.npz: what MaskGIT's own flax code computes at random weights, for tests/official/.

    git clone https://github.com/google-research/maskgit ../maskgit
    python tests/reference/make_maskgit.py ../maskgit

The transformer computes in float64 up to its logits, which it rounds to float32. Decoding follows logits that are a
fixed function of the codes; the noise that it draws is stored beside the codes after each iteration. Weights follow
from their names (tests/drawn_weights.py), which are paths of flax with "/" in between.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import drawn_weights  # noqa: E402

VOCABULARY, CLASSES, LENGTH = 11, 3, 6
MASK = VOCABULARY + CLASSES  # the last word; their -1 stands for the same row of the table
ITERATIONS, TEMPERATURE = 5, 4.5


def words() -> np.ndarray:
    """A class, then codes, of which some are masked: [4 L+1]; the last row's class is masked too."""
    given = np.random.RandomState(0).randint(VOCABULARY, size=(4, LENGTH + 1))
    given[:, 1:][np.random.RandomState(1).uniform(size=(4, LENGTH)) < 0.5] = MASK
    given[:, 0] = [VOCABULARY, VOCABULARY + 2, VOCABULARY + 1, MASK]
    return given


def logits() -> dict[str, Any]:
    """Of the transformer, and the loss of them."""
    from maskgit.libml.losses import weighted_sequence_cross_entropy_loss
    from maskgit.nets.maskgit_transformer import Transformer

    network = Transformer(
        MASK + 1, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=LENGTH + 1,
    )  # fmt: skip
    given = words()
    shapes = flax.traverse_util.flatten_dict(jax.eval_shape(network.init, jax.random.key(0), given), sep="/")
    scales = {name: 0.5 if len(leaf.shape) == 1 else 0.4 for name, leaf in shapes.items()}
    weights = {name: drawn_weights.weight(name, leaf.shape, scales[name]) for name, leaf in shapes.items()}
    found = network.apply(flax.traverse_util.unflatten_dict(weights, sep="/"), given)
    target = np.random.RandomState(2).randint(VOCABULARY, size=(3, LENGTH))
    of_codes = found[:3, 1:, :VOCABULARY]
    loss = weighted_sequence_cross_entropy_loss(
        labels=target, logits=of_codes, weights=given[:3, 1:] == MASK, label_smoothing=0.1
    )
    lines = [f"{name}|{','.join(map(str, leaf.shape))}|{scales[name]!r}" for name, leaf in shapes.items()]
    return {"weights": lines, "given": given, "logits": found[:, 1:, :VOCABULARY], "target": target, "loss": loss}


def decoding() -> dict[str, Any]:
    """Codes after each iteration, of all masked and of some known, and the noise that was drawn."""
    jnp.DeviceArray = jax.Array  # the name of old versions
    from maskgit.libml.parallel_decode import decode

    table = drawn_weights.normal("table", (VOCABULARY + 1, LENGTH, VOCABULARY))
    table = jnp.asarray(table, jnp.float32)

    def logits(codes: jax.Array) -> jax.Array:
        """Of a place: what the code before it says, and what the place says by itself."""
        before = jnp.roll(codes, 1, axis=1)
        return table[before, jnp.arange(LENGTH)] + table[-1, jnp.arange(LENGTH)]

    start = np.full((3, LENGTH), VOCABULARY)
    start[1, :2], start[2, 1:] = (4, 7), (1, 2, 3, 4, 5)
    key, drawn = jax.random.key(0), []
    codes = decode(start, key, logits, VOCABULARY, ITERATIONS, choice_temperature=TEMPERATURE)
    for _ in range(ITERATIONS):
        key, of_codes = jax.random.split(key)
        key, of_choice = jax.random.split(key)
        drawn.append((
            jax.random.gumbel(of_codes, (3, LENGTH, VOCABULARY), jnp.float32),
            jax.random.gumbel(of_choice, (3, LENGTH)),
        ))  # fmt: skip
    of_codes, of_choice = (np.stack(noise) for noise in zip(*drawn, strict=True))
    return {
        "table": table, "start": start, "iterations": codes, "gumbel": of_codes, "choice": of_choice,
        "temperature": TEMPERATURE,
    }  # fmt: skip


def main(folder: pathlib.Path) -> None:
    """Writes the file; `folder` is the clone."""
    sys.path.insert(0, str(folder))
    with jax.enable_x64(True):
        arrays = {f"network/{name}": np.asarray(value) for name, value in logits().items()}
    arrays |= {f"decoding/{name}": np.asarray(value) for name, value in decoding().items()}
    arrays = {name: a.astype(np.float32) if a.dtype == np.float64 else a for name, a in arrays.items()}
    commit = subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()
    versions = {"commit": commit, "jax": jax.__version__, "flax": flax.__version__, "numpy": np.__version__}
    np.savez_compressed(FOLDER / "official_maskgit.npz", versions=str(versions), **arrays)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
