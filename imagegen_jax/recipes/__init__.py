"""Experiments made for the data at hand: recipes of families for images of one's own, and recipes on other data."""
