"""The error of numbers that are none."""

from __future__ import annotations


class NonFiniteError(ArithmeticError):
    """A loss, a gradient or an image holds NaN or infinities; files that were written before are as they were."""
