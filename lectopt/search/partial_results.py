"""Ctrl-C: a person who ends a search is given what is done; a program is told by the exception, which carries it."""

import warnings

import jax

from lectopt._internal.live_picture import live_picture
from lectopt._internal.progress import interactive
from lectopt.search.hyperparameter_search import Search
from lectopt.search.results import Results


def run_or_keep_partial(search: Search) -> Results:
    """Runs all of it, or what was done when a person ended it by Ctrl-C, with a warning.

    Raises:
        KeyboardInterrupt: if nobody sits in front of it, nothing is done yet, or other processes share the search; its
            attribute `results` holds what was done, if anything.
    """
    try:
        return search.run(live_picture(search.options.progress))
    except KeyboardInterrupt as interrupt:
        found = search.so_far() if jax.process_count() == 1 else None
        if found is None:
            raise
        if not interactive():
            interrupt.results = found  # type: ignore[attr-defined]
            interrupt.add_note("What was done is in the attribute `results` of this exception.")
            raise
    kept = "" if search.options.directory is None else "; to continue, call the search again with the same directory"
    warnings.warn(
        f"interrupted: {(found.rungs > 0).sum()} of {len(found)} settings were run, the others are ranked last{kept}",
        stacklevel=3,
    )
    return found
