"""Recipes in folders of their families, each a module by its name alone: `python -m experiments.ddpm_digits`."""

import sys

from imagegen_jax.recipes.shipped import Finder

sys.meta_path.append(Finder(__name__))
