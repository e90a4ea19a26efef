"""Private training: gradients of rows that are clipped and noised, rows that are drawn alone, and what that proves."""
