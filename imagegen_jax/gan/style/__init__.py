"""GANs that grow while they train, and style-based GANs: ProGAN, StyleGAN, StyleGAN2."""
