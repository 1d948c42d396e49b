"""One style for all pictures."""


def style() -> list[str]:
    """Sets Matplotlib's defaults to lectopt's: its colours, sizes for a page 800 pixels wide, no boxes around axes.

    Returns:
        The colours, eight that colour-blind readers can tell apart too, as "C0" to "C7" name them from now on.

    Raises:
        ImportError: if Matplotlib is not installed.

    Example:
        >>> import lectopt as lo
        >>> import matplotlib.pyplot as plt
        >>> with plt.rc_context():  # only here
        ...     lo.style()[:2]
        ['#0072B2', '#D55E00']

    Source: M. Okabe and K. Ito (2008), "Color Universal Design", J*Fly.
    """
    from lectopt.plots.style import set_defaults  # noqa: PLC0415, matplotlib is heavy

    return set_defaults()
