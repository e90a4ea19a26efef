"""Arrays: random numbers by rows, pixels and latents, likelihoods of pixels, where and how they are laid out."""
