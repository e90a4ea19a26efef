"""Sources of images, one file a kind."""
