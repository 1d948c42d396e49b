"""Empty figures: their axes side by side, and unknown to pyplot."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def subplots(*shape: int, **options: Any) -> tuple[Figure, Any]:
    """What `plt.subplots` returns, closed: a notebook shows what a cell returns, and an open figure once more."""
    figure, axes = plt.subplots(*shape, layout="constrained", **options)
    plt.close(figure)
    return figure, axes


def panel_grid(
    count: int, *, columns: int = 3, width: float = 4, height: float = 3, **options: Any
) -> tuple[Figure, Sequence[Axes]]:
    """That many axes, each `width` x `height` inches, at most `columns` in a row."""
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    figure, axes = subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False, **options)
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def shared_panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    """That many axes with one y axis for all, at most four in a row."""
    figure, axes = panel_grid(count, columns=4, width=3.3, height=3.2, sharey=True)
    width, height = figure.get_size_inches()
    figure.set_size_inches(max(width, 4.5), height + 0.2)
    return figure, axes
