"""Recipes: those that come with the package, those of families for images of one's own, and each on other data."""
