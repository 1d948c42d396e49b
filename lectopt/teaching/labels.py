"""Names at the lines of a picture, in place of a legend."""

from typing import Any


def label_lines(axis: Any) -> None:
    """Writes the label of each line to the right of the axis, in the line's colour and at the height of its end.

    Call it when everything is drawn and the limits of the axis are set. Labels that would overlap are moved apart.

    Args:
        axis: the Matplotlib `Axes`; lines without a label get none.

    Raises:
        ImportError: if Matplotlib is not installed.

    Example:
        >>> import lectopt as lo
        >>> import matplotlib.pyplot as plt
        >>> figure, axis = plt.subplots()
        >>> _ = axis.plot([0, 1], [0, 1], label="up"), axis.plot([0, 1], [1, 0], label="down")
        >>> lo.label_lines(axis)
        >>> [text.get_text() for text in axis.texts]
        ['down', 'up']
        >>> plt.close(figure)

    Source: E. R. Tufte (1983), "The Visual Display of Quantitative Information", on words beside what they name.
    """
    from lectopt.plots.line_labels import draw_line_labels  # noqa: PLC0415, matplotlib is heavy

    draw_line_labels(axis)
