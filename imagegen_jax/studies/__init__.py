"""Many runs as one question: sweeps over fields and seeds, and what the difference between them is worth."""
