"""GANs that turn an image into another: Pix2Pix, CycleGAN."""
