"""Drawing by what a network sees of a text, and by what is made of its weights of attention while it draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from imagegen_jax.core.arrays.space import space_of
from imagegen_jax.core.capabilities import Denoise, Denoising, reads_text
from imagegen_jax.core.model import Batch, Image, Nets, PRNGKey
from imagegen_jax.diffusion.guidance.conditions import DropsConditions, guided_by_conditions
from imagegen_jax.diffusion.process.denoiser import Clipped, clipped
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.multihead import Change, changing_attention

AtLevel = Callable[[Float[Array, " b"]], Change]  # from the level of noise


@runtime_checkable
class Worded(DropsConditions, Denoising, Protocol):
    """A model that draws by a denoiser of what its network sees of conditions, a text's among them."""


def worded_model(model: Any) -> Worded:
    """Returns `model` itself. Raises ValueError where it does not draw images by texts and a denoiser."""
    if reads_text(model) is None or not isinstance(model, Worded) or not space_of(model).draws_images:
        raise ValueError(
            f"a {type(model).__name__} that was trained as this one does not draw images by text with a denoiser: use "
            "a run that was trained with text, such as one of the recipe shapes_text"
        )
    return model


def drawn_by(
    model: Worded, nets: Nets, conditions: Batch, seen: Conditioning, key: PRNGKey, change: AtLevel | None = None
) -> Image:
    """Draws images as `model.sample` does, by what the network has `seen` of the conditions.

    Guidance leads away from the same as there. `change` is of the attention within the model's own estimate alone.
    """
    own = model.estimate(nets, seen)
    own = own if change is None else _changed(own, change)
    denoise = guided_by_conditions(model, nets, conditions)(own)
    rows = len(conditions["text"])
    return space_of(model).decode(model.path.draw(denoise, (rows, *model.image_shape), key), nets)


def _changed(denoise: Denoise, change: AtLevel) -> Denoise:
    if isinstance(denoise, Clipped):
        return clipped(_changed(denoise.whole, change))

    def under(x: Float[Array, "b ..."], sigma: Float[Array, " b"]) -> Float[Array, "b ..."]:
        with changing_attention(change(sigma)):
            return denoise(x, sigma)

    return under
