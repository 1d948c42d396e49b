"""Names of metrics, layers and trainings, as a picture can show them."""

from collections.abc import Iterable

from lectopt._internal.tables import unique_names

_LONGEST = 30
"""Characters of a name that are shown."""
_ZERO_WIDTH_SPACE = "\u200b"


def display_name(name: str) -> str:
    """The name of a metric or a hyperparameter in words: "valid_loss" is the validation loss."""
    for short, long in (("valid_", "validation "), ("train_", "training ")):
        if name.startswith(short):
            name = long + name.removeprefix(short)
    return literal(name.replace("_", " "))


def literal(name: str) -> str:
    """A name that Matplotlib shows as it is: no formula, not hidden, and cut in the middle if it is too long."""
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 + 1 :]}"
    # Matplotlib takes what is between two dollars for a formula, and hides what begins with an underscore.
    return (_ZERO_WIDTH_SPACE if name.startswith("_") else "") + name.replace("$", r"\$")


def distinct_names(names: Iterable[str]) -> list[str]:
    """The names for a legend or an axis, each one different from all others even where they had to be cut."""
    return unique_names([literal(name) for name in names])


def by_metric(names: Iterable[str]) -> dict[str, list[str]]:
    """{metric: the names of its records of epochs}, the loss first, and of each metric the training part first.

    What stands before the metric is the name of a set of examples, each of which has a loss.
    """
    found: dict[str, list[str]] = {}
    names = sorted(set(names), key=lambda name: (not name.startswith("train_"), name))
    sets = sorted(
        {"train_", "valid_", *(name.removesuffix("loss") for name in names if name.endswith("_loss"))}, key=len
    )
    for name in names:
        prefix = next((prefix for prefix in sets if name.startswith(prefix)), "")
        found.setdefault(name.removeprefix(prefix), []).append(name)
    return dict(sorted(found.items(), key=lambda item: item[0] != "loss"))
