"""How much is done at once, where nothing can be shown or kept in between."""


def next_size(size: int, seconds: float, *, target: float, growth: int) -> int:
    """The size of the next chunk, after one of `size` that took so many seconds.

    It is to take about `target` seconds, and is at most `growth` times as large (the first one may also compile).
    """
    return max(1, min(growth * size, int(size * target / max(seconds, 1e-6))))
