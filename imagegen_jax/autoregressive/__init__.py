"""Autoregressive models: of pixels one after another, and of codes over a tokenizer."""
