"""What a figure shows, read from its parts."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg


def panels(figure):
    """{title, up to a colon: axis}"""
    return {axis.get_title().split(":")[0]: axis for axis in figure.axes}


def drawn_panels(figure):
    """The same, of the figure as it is drawn, which takes a while: its texts have places, and ticks their labels."""
    FigureCanvasAgg(figure).draw()  # closed figures have no canvas that draws
    return panels(figure)


def lines(axis):
    """{label: (x, y)}"""
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axis.get_lines()}


def same(line, x, y):
    """Asserts that a line is at these places."""
    np.testing.assert_allclose(line[0], x)
    np.testing.assert_allclose(line[1], y, rtol=1e-12)


def legend_texts(legend):
    """The labels in a legend."""
    return [text.get_text() for text in legend.get_texts()]


def overlap(texts):
    """Whether any two texts lie on each other."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
