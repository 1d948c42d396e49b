"""Vectors of choices: what there is to decide, and the record of what was tried."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.types import Array


class Decisions(NamedTuple):
    """What there is to decide, in order."""

    options: tuple[int, ...]
    """How many there are to choose from."""
    active: Callable[[Array], Array] | None = None
    """int32[decisions] -> bool[decisions], in JAX: which entries of a vector mean something; None is all."""
    anchors: tuple[int, ...] | None = None
    """For each decision -1, or the earlier decision whose hidden state says whether to connect to it."""

    @property
    def most(self) -> int:
        """The largest number of options."""
        return max(self.options)

    @property
    def possible(self) -> Array:
        """bool[decisions, most]: which options each decision has."""
        return jnp.arange(self.most) < jnp.array(self.options)[:, None]

    def matter(self, vectors: Array) -> Array:
        """Returns bool[n, decisions]: which entries of these vectors apply."""
        return jnp.ones(vectors.shape, bool) if self.active is None else jax.vmap(self.active)(vectors)

    def canonical(self, vectors: Array) -> Array:
        """Returns the vectors with 0 for all that does not apply, so that equal choices are equal vectors."""
        return jnp.where(self.matter(vectors), vectors, 0)


def as_decisions(choices: Any) -> Decisions:
    """Converts numbers of options, or an object that has them such as an ArchitectureSpace, to decisions.

    Raises:
        ValueError: if there are none, or one has no option.
        TypeError: if they are not whole numbers.
    """
    found = getattr(choices, "decisions", choices)
    if isinstance(found, Decisions):
        return found
    checks.check_known("choices", found, "search")
    if not isinstance(found, (Sequence, np.ndarray, jax.Array)) or not checks.is_iterable(found):
        raise TypeError(f"choices must be the numbers of options, or an ArchitectureSpace; got {choices!r}")
    if not len(found):
        raise ValueError("choices must be the numbers of options of at least one decision; got none")
    several = found if isinstance(found, Sequence) else np.asarray(found).tolist()
    return Decisions(tuple(checks.check_count(f"choices[{i}]", count) for i, count in enumerate(several)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Record:
    """What a search over vectors of choices has tried, round by round. A pytree.

    Attributes:
        choices: int32[rounds, children, decisions]; 0 for decisions that do not apply to a vector.
        scores: float32[rounds, children]; higher is better.
        entropy: float32[rounds]: the entropy of the controller's choices in nats, the mean over its children; None
            without a controller.
        probabilities: float32[rounds, decisions, most options]: the probability with which the controller chooses each
            option, the mean over its children; None without a controller.

    Example:
        >>> import lectopt as lo
        >>> record = lo.search.random_choices([3, 3], lambda vectors: -vectors.sum(axis=1), 2, 10, key=0)
        >>> record.best()
        [(array([0, 0], dtype=int32), 0.0)]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Neural Architecture Search (NAS)".
    """

    choices: Array
    scores: Array
    entropy: Array | None = None
    probabilities: Array | None = None

    def best(self, n: int = 1) -> list[tuple[np.ndarray, float]]:
        """Returns the n best different vectors with their scores.

        A vector that was tried several times has the mean of its scores, and none if one of them is NaN.

        Args:
            n: number of vectors, at least 1 (the default).

        Returns:
            At most n pairs (int32[decisions], float), from best to worst.

        Raises:
            ValueError: if n is below 1.
            TypeError: if n is not a whole number.
        """
        return best_of([self], checks.check_count("n", n))

    def best_so_far(self) -> Array:
        """Returns the highest score up to each evaluation.

        Returns:
            float32[rounds * children], never decreasing.
        """
        scores = jnp.where(jnp.isnan(self.scores), -jnp.inf, self.scores).reshape(-1)
        return jax.lax.cummax(scores)

    def __repr__(self) -> str:
        return f"Record(choices=int32{list(jnp.shape(self.choices))}, scores=float32{list(jnp.shape(self.scores))})"


def best_of(records: Sequence[Record], count: int) -> list[tuple[np.ndarray, float]]:
    """Returns the best different vectors of several records, from best to worst, with their mean scores."""
    vectors = np.concatenate([np.asarray(r.choices).reshape(-1, np.shape(r.choices)[-1]) for r in records])
    scores = np.concatenate([np.asarray(r.scores, np.float64).ravel() for r in records])
    different, which = np.unique(vectors, axis=0, return_inverse=True)
    means = np.bincount(which.ravel(), scores) / np.bincount(which.ravel())
    order = [i for i in np.argsort(-means, kind="stable") if not np.isnan(means[i])]
    return [(different[i], float(means[i])) for i in order[:count]]
