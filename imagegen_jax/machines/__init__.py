"""Machines that are not here: programs compiled for TPUs or GPUs without one, and what they would take there."""
