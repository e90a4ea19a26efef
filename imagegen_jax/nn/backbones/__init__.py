"""Whole networks that several models use, and the conditions that these networks see."""
