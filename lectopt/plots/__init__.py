"""Pictures from plain arrays: they know no class of lectopt's.

Imports `_internal` only. Matplotlib is imported by the modules in here, so import these late.
"""
