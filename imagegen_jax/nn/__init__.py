"""Layers that two or more models use."""
