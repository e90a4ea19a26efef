"""The parts of `scripts/on_accelerator`: what is worth knowing of an accelerator that is at hand for minutes."""
