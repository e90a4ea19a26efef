"""Images made of pieces of others."""
