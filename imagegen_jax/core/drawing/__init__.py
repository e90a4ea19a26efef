"""Samples drawn in chunks, looked at before they are kept, and shown as one picture."""
