"""Pictures from plain arrays, dictionaries and strings: they know no class of lectopt's.

A file for each picture (`history`, `comparison`, `scores`, `architecture_search` ...), and for what they share
(`style`, `names`, `figures`, `curves`, `score_range` ...). Imports `_internal` only. The modules need Matplotlib, which
is heavy and optional, so the methods that draw import them late.
"""

from lectopt.plots import requirement  # noqa: F401, before Matplotlib itself is imported
