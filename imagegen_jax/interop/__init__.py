"""Imports of models that other libraries trained."""
