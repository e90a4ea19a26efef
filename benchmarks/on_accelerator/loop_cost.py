"""What the training loop costs over the bare step, for small networks, whose steps an accelerator takes in no time."""

from __future__ import annotations

from loop_overhead import measure as overhead

from imagegen_jax import override
from imagegen_jax.data import Digits
from imagegen_jax.recipes.shipped import module_of
from on_accelerator.parts import Settings, Tell

RECIPES = {"dcgan_mnist": {"data": Digits(size=32), "evaluation": None}, "edm_digits": {}}


def measure(settings: Settings, tell: Tell) -> None:
    """Tells of each recipe."""
    for name, changes in RECIPES.items():
        module = module_of(name)
        if settings.dry_run:
            tell({name: overhead(override(module.experiment, {**module.smoke, "evaluation": None}), 2, 1, 1)})
            return  # one shows that it works
        tell({name: overhead(override(module.experiment, changes), steps=100, blocks=4, rounds=2)})
