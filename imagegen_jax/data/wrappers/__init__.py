"""Sources that are made of other sources: with captions as tokens, changed, stacked, or a part of them."""
