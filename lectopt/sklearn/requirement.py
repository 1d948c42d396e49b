"""scikit-learn, which is optional: where it is missing, the message says how to install it."""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError("lectopt.sklearn needs scikit-learn: pip install 'lectopt[sklearn]'") from error
