"""Solvers, and the noise levels that they go along."""
