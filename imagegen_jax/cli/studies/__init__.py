"""Commands about many runs: sweeps and comparisons."""
