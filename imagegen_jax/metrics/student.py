"""Student's t distribution, for means over few seeds."""


def t_quantile(degrees: float, probability: float) -> float:
    """Returns the quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
