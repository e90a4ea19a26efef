"""Pages to read in a browser: the report of a run."""
