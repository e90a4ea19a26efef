"""Models that encode an image and decode it again."""
