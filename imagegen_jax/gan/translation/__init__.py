"""GANs that make an image of another: Pix2Pix, CycleGAN."""
