"""Models that are trained by denoising."""
