"""GANs that grow, and GANs that styles lead: ProGAN, StyleGAN, StyleGAN2."""
