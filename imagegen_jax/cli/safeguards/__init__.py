"""Commands that say where a picture comes from: its metadata, and marks in its pixels."""
