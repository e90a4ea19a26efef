"""Sources of images, a file for each kind."""
