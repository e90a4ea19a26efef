"""Whole networks that several models take, and what they are told."""
