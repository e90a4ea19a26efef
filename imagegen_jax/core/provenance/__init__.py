"""What a generated picture says of itself: which run, step, seed, row and prompt it comes from."""
