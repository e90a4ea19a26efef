"""DiT (Peebles & Xie 2023, arXiv 2212.09748) as diffusers saves it: a `Diffusion` by classes.

diffusers embeds times at other frequencies than the authors' code, whose weights it publishes. A run draws what
diffusers draws; with `--model.network.endpoint False --model.network.mlp_epsilon 1e-6` it is the authors' network.
"""

from __future__ import annotations

import pathlib

from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.importing import Published
from imagegen_jax.interop.names import autoencoders, transformers
from imagegen_jax.interop.pipelines.networks import kl_of
from imagegen_jax.interop.pipelines.parts import Part, config_of, latent_sampling, published
from imagegen_jax.interop.pipelines.transformers import dit_of
from imagegen_jax.interop.settings import Config

DROPPED = 0.1  # the share of labels that training dropped


def read(folder: pathlib.Path, index: Config) -> Published:
    """Reads a folder. Raises what `stable_diffusion.read` raises."""
    configs = {part: config_of(folder, part) for part in ("transformer", "vae", "scheduler")}
    network, latent_shape, found = dit_of(*configs["transformer"])
    autoencoder, stage = kl_of(configs["vae"][0], latent_shape, configs["vae"][1])
    classes = found["num_embeds_ada_norm"]
    model = Diffusion(
        network=network,
        image_shape=latent_shape,
        num_classes=classes,
        label_dropout=DROPPED,
        unused_variance=network.out_channels is not None,
        space=Latents(stage["scaling_factor"], 0.0, autoencoder),
        **latent_sampling(*configs["scheduler"]),
    )
    parts = {
        "transformer": Part("network", transformers.DIT),
        "vae": Part("autoencoder", autoencoders.autoencoder(len(stage["block_out_channels"]))),
    }
    return published(folder, model, configs, parts, class_names=class_names_of(index, classes))


def class_names_of(index: Config, classes: int) -> tuple[str, ...]:
    """Returns the names of the classes, which model_index.json may have by their numbers; () where it has not all."""
    names = index.get("id2label")
    found = [names.get(str(i)) for i in range(classes)] if isinstance(names, dict) else []
    known = tuple(name for name in found if isinstance(name, str))
    return known if len(known) == classes else ()
