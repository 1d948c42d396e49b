"""After the search: the best few trained again from other starts, chosen among, tested, and the winner made plain."""

import dataclasses
from collections.abc import Mapping, Sized
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.out_of_memory import run_fitted
from lectopt._internal.progress import ProgressBar
from lectopt._internal.types import Array
from lectopt.architecture.children import Children
from lectopt.architecture.design import Architecture
from lectopt.architecture.results import Finalist
from lectopt.data.subsets import Subset
from lectopt.strategies.choices import Record, best_of
from lectopt.tasks import evaluation
from lectopt.tasks.example_checks import check_examples
from lectopt.training.fitting import fit
from lectopt.training.run import Run


@dataclasses.dataclass(frozen=True)
class FinalTrainings:
    """What is trained once the search has ended."""

    children: Children
    rest: Subset
    test: Subset | None
    by_hand: Any  # an Architecture, or a model for a task
    count: int  # of each method
    seeds: int
    key: jax.Array

    def check(self) -> None:
        """Checks, before anything is trained, that examples, task and the network by hand fit one another.

        How the masked network is trained is checked when the search is traced.
        """
        shown, dimensions = self._shown_by_hand(), len(self.children.shape) - 1
        if shown is not None:
            shown.check("by_hand", dimensions)
        by_hand = self._model_by_hand()
        masked = self.children.model(jnp.zeros(len(self.children.space.choices), jnp.int32))
        if self.test is not None:
            for model in (masked, by_hand):
                check_examples(self.children.recipe.task(model), self.test, "test")
        jax.eval_shape(lambda: self._judged(by_hand, self.key))

    def run(self, records: Mapping[str, Record], progress: bool) -> tuple[list[Finalist], np.ndarray, Run]:
        """Returns the best of each method and the network by hand, the vector of the best of all, and its plain run.

        Raises:
            ValueError: if no child has a score.
        """
        candidates = {name: record.best(self.count) for name, record in records.items()}
        vectors = np.unique([vector for found in candidates.values() for vector, _ in found], axis=0)
        self._check_any(vectors)
        with ProgressBar("final trainings", 3, show=progress) as bar:
            judged = {vector.tobytes(): one for vector, one in zip(vectors, self._side_by_side(vectors), strict=True)}
            bar.update(1)
            last = self._finalist("by hand", self._shown_by_hand(), None, self._from_all_seeds(self._model_by_hand()))
            bar.update(2)

            def merit(vector: np.ndarray) -> tuple[int, float]:
                """Of the validation part: nothing is chosen by the test set. Starts that diverge count first."""
                scores = judged[vector.tobytes()]["score"]
                return int(np.isfinite(scores).sum()), float(np.nan_to_num(scores, nan=0.0).sum())

            best = max(vectors, key=merit)
            run = self._plain(best)
        finalists = []
        for name, found in candidates.items():
            if not found:  # all that it tried diverged
                finalists.append(self._finalist(name, None, None, {"score": np.full(self.seeds, np.nan, np.float32)}))
                continue
            vector, searched = max(found, key=lambda one: merit(one[0]))
            architecture = self.children.space.decode(vector)
            finalists.append(self._finalist(name, architecture, searched, judged[vector.tobytes()]))
        return [*finalists, last], best, run

    def of_interrupted(self, records: Mapping[str, Record]) -> tuple[list[Finalist], np.ndarray, None]:
        """Returns the best of an interrupted search by its score there; no finalists and no run."""
        found = best_of(list(records.values()), 1)
        self._check_any(found)
        return [], found[0][0], None

    def _check_any(self, found: Sized) -> None:
        if not len(found):
            raise ValueError(
                f"no child has a finite {self.children.goal.metric}: every child diverged (lower the optimizer's "
                "learning rate), or the metric is undefined on the validation part"
            )

    def _side_by_side(self, vectors: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Returns what each of these architectures reaches from each seed: {name: float32[seeds]}."""

        def lane(row: Array, key: jax.Array) -> dict[str, Array]:
            return self._judged(self.children.model(row[:-1]), jax.random.fold_in(key, row[-1]))

        rows = np.array([[*vector, seed] for vector in vectors for seed in range(self.seeds)], np.int32)

        def run(children: Children) -> dict[str, np.ndarray]:
            lanes = jax.jit(lambda rows, key: children.side_by_side(lane, rows, key))
            return jax.tree.map(np.asarray, lanes(rows, self.key))

        at_once = dataclasses.replace(self.children, at_once=min(self.children.at_once, len(rows)))
        found = run_fitted(at_once, run, Children.halved)[1]
        parts = [slice(i, i + self.seeds) for i in range(0, len(rows), self.seeds)]
        return [{name: values[part] for name, values in found.items()} for part in parts]

    def _from_all_seeds(self, model: Any) -> dict[str, np.ndarray]:
        """Trains one seed after the other: side by side, convolutions would fall back to slow loops."""

        def judged(seed: Array) -> dict[str, Array]:
            return self._judged(model, jax.random.fold_in(self.key, seed))

        return jax.tree.map(np.asarray, jax.jit(lambda seeds: jax.lax.map(judged, seeds))(jnp.arange(self.seeds)))

    def _judged(self, model: Any, key: jax.Array) -> dict[str, Array]:
        """Returns its score as a child, and its test metrics after training on all other examples."""
        score = {"score": self.children.score(model, key)}
        if self.test is None:
            return score
        run = self.children.recipe.train(model, self.rest, None, key)
        scores = evaluation.evaluate(run.task, run.params, run.model_state, self.test)
        return score | {
            f"test_{name}": jnp.where(run.diverged_at < 0, value, jnp.nan) for name, value in scores.items()
        }

    def _plain(self, vector: np.ndarray) -> Run:
        """Trains the architecture as a plain network on all examples but the test set."""
        recipe = self.children.recipe
        network = self.children.space.decode(vector).network(self.children.shape, self.children.outputs)
        options: dict[str, Any] = {"batch_size": recipe.batch_size, "epochs": recipe.epochs, "key": self.key}
        return fit(recipe.task(network), recipe.optimizer, self.rest, progress=False, **options)

    def _finalist(
        self, method: str, architecture: Architecture | None, searched: float | None, judged: dict[str, np.ndarray]
    ) -> Finalist:
        sign = 1 if self.children.goal.maximizes else -1
        tests = {name.removeprefix("test_"): values for name, values in judged.items() if name != "score"}
        return Finalist(
            method, architecture, None if searched is None else sign * searched, sign * judged["score"], tests
        )

    def _model_by_hand(self) -> Any:
        shown = self._shown_by_hand()
        return self.by_hand if shown is None else shown.network(self.children.shape, self.children.outputs)

    def _shown_by_hand(self) -> Architecture | None:
        by_hand = self.children.space.largest if self.by_hand is None else self.by_hand
        return by_hand if isinstance(by_hand, Architecture) else None
