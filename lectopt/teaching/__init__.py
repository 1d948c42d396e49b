"""What lectures and notebooks show beside the library: a page to play with, and one style for all pictures.

`racer` makes a page of HTML that runs in any browser, without Python and without a network; `racer.html` beside it is
the page. `style` sets Matplotlib's defaults, and `label_lines` writes names at the lines they belong to. Imports
`_internal` and `plots`.
"""

from lectopt.teaching.labels import label_lines as label_lines
from lectopt.teaching.racer import Racer as Racer
from lectopt.teaching.racer import racer as racer
from lectopt.teaching.style import style as style

__all__ = ["Racer", "label_lines", "racer", "style"]
