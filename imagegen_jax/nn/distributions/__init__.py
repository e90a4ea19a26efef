"""Distributions that several families share: of a pixel's channels, and of noise step by step."""
