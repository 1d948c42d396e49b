"""Matplotlib, which is optional: where it is missing, the message says how to install it."""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError("plots need matplotlib: pip install 'lectopt[examples]'") from error
