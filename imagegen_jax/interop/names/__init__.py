"""Names of published tensors, and where they go in this package's networks: data for `interop.name_map`."""
