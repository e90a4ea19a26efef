"""Times as people say them."""


def clock(seconds: float) -> str:
    """Returns a time as 0:34, 12:05 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def duration(seconds: float) -> str:
    """Returns a time as 1 h 02 min, 3 min 20 s or 15 s."""
    seconds = int(min(seconds, 10**8))
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds // 60 % 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"
