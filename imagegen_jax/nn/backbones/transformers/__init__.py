"""Transformers over sequences of codes: their blocks, and the networks of each paper."""
