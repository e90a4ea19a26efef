"""Image generation in JAX and Flax: every family of models under one contract and one loop."""

from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.override import override
from imagegen_jax.core.program import Program
from imagegen_jax.main import main
from imagegen_jax.run import Run, fit, load, load_network, save_network

__all__ = ["Experiment", "Program", "Run", "fit", "load", "load_network", "main", "override", "save_network"]
