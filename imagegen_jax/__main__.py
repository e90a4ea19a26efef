"""`python -m imagegen_jax`, the same as `imagegen`."""

from imagegen_jax.cli import main

main()
