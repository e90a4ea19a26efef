"""Files and folders: read with limits, written whole, held by one process at a time."""

from imagegen_jax import moved

__getattr__ = moved.attributes(__name__)  # this was a module once
