"""Networks that turn the tokens of a text into vectors, which denoising networks see."""
