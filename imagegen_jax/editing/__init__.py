"""Changes to what models make: of photos, of latents, of rows."""

from imagegen_jax import moved

__getattr__ = moved.attributes(__name__)
