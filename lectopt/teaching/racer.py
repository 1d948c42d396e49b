"""The page on which eight algorithms race downhill: `racer.html` with its settings filled in."""

import dataclasses
import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lectopt._internal import checks

_PAGE = Path(__file__).parent / "racer.html"
_NO_SETTINGS = '<script type="application/json" id="settings">{}</script>'
_LANDSCAPES = ("ravine", "saddle", "cliff", "noisy bowl")


@dataclasses.dataclass(frozen=True)
class Racer:
    """A page that shows itself in a notebook, and in what a notebook is exported to.

    Attributes:
        page: the HTML, which loads nothing from anywhere.
        height: pixels that it takes in a notebook.

    Example:
        >>> import lectopt as lo
        >>> lo.racer("saddle").save("saddle.html")  # doctest: +SKIP
    """

    page: str
    height: int

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {self.height}px; border: 0"
        return f'<iframe title="racer" style="{style}" srcdoc="{html.escape(self.page)}"></iframe>'

    def __repr__(self) -> str:
        return "a page of HTML: notebooks show it, .save(path) writes it to a file"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the page to a file that any browser opens.

        Args:
            path: where to, such as "racer.html".
        """
        Path(path).write_text(self.page, encoding="utf-8")


def racer(
    landscape: str = "ravine",
    *,
    start: Sequence[float] | None = None,
    factor: float = 1.0,
    momentum: float = 0.9,
    decay: float = 0.9,
    height: int = 690,
) -> Racer:
    """Makes a page on which the lecture's eight algorithms race downhill, each at its best rate.

    In the page the start can be dragged, and sliders change all of the numbers below but the height. What it computes
    in the browser is what lectopt computes, to the rounding of float64.

    Args:
        landscape: "ravine", "saddle", "cliff" or "noisy bowl".
        start: (w1, w2), where all algorithms start; None for a place that suits the landscape.
        factor: by which the best rate of each algorithm is multiplied, from 0.01 to 10.
        momentum: alpha of momentum, Nesterov momentum and RMSProp with it; in Adam, rho_1.
        decay: rho of RMSProp, with Nesterov momentum and without; in Adam, rho_2 is 1 - (1 - decay) / 100.
        height: pixels that the page takes in a notebook.

    Returns:
        A `Racer`: the last line of a cell shows it, and `save` writes it to a file.

    Raises:
        ValueError: if the landscape is none of the four, or a number is out of its range.
        TypeError: if something is no number.

    Example:
        >>> import lectopt as lo
        >>> page = lo.racer("cliff", momentum=0.5)
        >>> page
        a page of HTML: notebooks show it, .save(path) writes it to a file

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Basic Training Algorithms".
    """
    checks.check_choice("landscape", landscape, _LANDSCAPES)
    checks.check_number("factor", factor, checks.Interval(0.01, 10))
    for name, value in {"momentum": momentum, "decay": decay}.items():
        checks.check_number(name, value, checks.FRACTION)
    chosen: dict[str, Any] = {"landscape": landscape, "factor": float(factor)}
    chosen |= {"momentum": float(momentum), "decay": float(decay)}
    if start is not None:
        place = np.asarray(start, float)
        if place.shape != (2,) or not np.isfinite(place).all():
            raise ValueError(f"start must be two finite numbers; got {start}")
        chosen["start"] = place.tolist()
    filled = _NO_SETTINGS.replace("{}", json.dumps(chosen))
    page = _PAGE.read_text(encoding="utf-8").replace(_NO_SETTINGS, filled)
    return Racer(page, checks.check_count("height", height))
