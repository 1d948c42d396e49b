"""Pictures from plain arrays, dictionaries and strings: they know no class of lectopt's.

Imports `_internal` only. Matplotlib is imported by the modules in here, so the methods that draw import them late.
"""

from lectopt.plots import requirement  # noqa: F401, before Matplotlib itself is imported
