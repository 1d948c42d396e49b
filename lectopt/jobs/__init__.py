"""The jobs of `python -m lectopt`, one a file.

Imports everything else.
"""
