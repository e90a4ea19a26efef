"""`python -m imagegen_jax.cli`, the same as `imagegen`."""

from imagegen_jax.cli import main

main()
