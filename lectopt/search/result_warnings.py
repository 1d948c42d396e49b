"""What a search warns of."""

import warnings

import numpy as np

from lectopt.search.boundaries import boundary_of
from lectopt.search.results import Results


def warn_of_edges(results: Results) -> Results:
    """Warns where no setting has a score, all that went on diverged, or the best value stands at the space's end."""
    if np.isnan(results.mean()).all():
        warnings.warn(f"no setting has a finite {results.metric} on all folds: {results.missing()}", stacklevel=3)
        return results
    best = results.best()
    if results.rungs[results.best_index] < results.rungs.max():
        warnings.warn(
            "every setting that went on to the last rungs diverged there: the best one is among those dropped before",
            stacklevel=3,
        )
    for name in results.settings:
        if (edge := boundary_of(results, name)) is not None:
            warnings.warn(
                f"the best {name}, {best[name]:.4g}, lies at the {edge.which} end of what was searched, "
                f"{edge.low:.4g} to {edge.high:.4g}: a better one may lie beyond. Widen the space",
                stacklevel=3,
            )
    return results
