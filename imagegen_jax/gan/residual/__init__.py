"""GANs of residual networks: SNGAN, SAGAN, BigGAN."""
