"""What a search warns of."""

import warnings

import numpy as np

from lectopt.search.results import Results
from lectopt.search.settings import python_value
from lectopt.search.space import Choice


def warn_of_edges(results: Results) -> Results:
    """Warns where the best value of a hyperparameter is the least or the largest that was tried, or all diverged.

    Of two values one is always at the edge, 0 is where a hyperparameter is switched off, and a `choice` names all that
    there is: none is worth a word.
    """
    if np.isnan(results.mean()).all():
        warnings.warn(f"every setting diverged: no {results.metric} is finite on all folds", stacklevel=3)
        return results
    for name, column in results.settings.items():
        best = results.best()[name]
        numbers = all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in column)
        named = isinstance(results.settings.space.get(name), Choice)
        if named or not numbers or len(set(column)) < 3 or best == 0:
            continue
        for word, edge in (("lowest", min(column)), ("highest", max(column))):
            if python_value(edge) == best:
                warnings.warn(
                    f"the best {name}, {best:.4g}, is the {word} that was tried: a better one may lie beyond. Widen "
                    "the space",
                    stacklevel=3,
                )
    return results
