"""Judging by eye: people choose between pictures of two sets without knowing which is which; votes are counted."""
