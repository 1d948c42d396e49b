"""The records of a training."""

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from lectopt._internal.files import checked_path, read_arrays, save_arrays
from lectopt._internal.tables import import_pandas, unique_names
from lectopt._internal.trees import paths
from lectopt._internal.types import Array, Numeric
from lectopt.training.history_parts import Part

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class History:
    """The course of a training, step by step and epoch by epoch; NaN where nothing was done.

    Attributes:
        steps: {name: float32[steps]}: "loss" (of the batch, without penalties), "gradient_norm" (before clipping) and,
            where the optimizer is lectopt's, "learning_rate"; with `clip_by_norm`, "clipped" (1 for a step that was)
            and "clip_threshold".
        epochs: {name: float32[epochs]}: "train_loss" (the mean over the epoch of the losses at the time of each step),
            "valid_loss" and `valid_<metric>` at the end of the epoch; validation sets with names stand there by theirs.
        layers: {layer: {statistic: float32[records]}}, in the order in which the layers are called, at the steps 0,
            `watched_every`, 2 `watched_every`, ...; `lectopt.watch` describes the statistics. Empty if nothing was
            watched.
        baseline_loss: float32[], the loss of the best constant outputs for the training part; None where the task does
            not know it.
        diverged_at: int32[], the first step whose loss was not finite (or an epoch's last step, if it leaves weights
            that are not); -1 if there was none.
        steps_per_epoch: the number of steps in an epoch, an int.
        batch_size: the number of examples in a minibatch, an int.
        watched_every: the number of steps from one record of the layers to the next, an int; 0 if nothing was watched.
        validations: {name: float32[validations]}: "valid_loss", `valid_<metric>`, where they were validated by steps
            (`validate_every`), in place of the ends of epochs; `validated_steps` says at which.
        validated_every: the number of steps from one validation to the next, an int; 0 for the ends of epochs.
        earlier: what there is of the trainings that this one went on from (`start=run`), whose records come first; the
            three numbers of steps above are those of the last training.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
        >>> history = lo.fit(task, lo.sgd(0.01), lo.datasets.iris(), batch_size=30, epochs=2, key=0).history
        >>> sorted(history.steps), history.steps["loss"].shape, history.epochs["train_loss"].shape
        (['gradient_norm', 'learning_rate', 'loss'], (10,), (2,))
    """

    steps: dict[str, Array]
    epochs: dict[str, Array]
    layers: OrderedDict[str, dict[str, Array]]
    baseline_loss: Array | None
    diverged_at: Numeric
    steps_per_epoch: int = dataclasses.field(metadata={"static": True})
    batch_size: int = dataclasses.field(metadata={"static": True})
    watched_every: int = dataclasses.field(metadata={"static": True})
    validations: dict[str, Array] = dataclasses.field(default_factory=dict)
    validated_every: int = dataclasses.field(default=0, metadata={"static": True})
    earlier: tuple[Part, ...] = dataclasses.field(default=(), metadata={"static": True})

    def plot(self) -> "Figure":
        """Plots the dashboard: losses, metrics, gradient norm, clipping, learning rate, statistics of the layers.

        To plot several histories over each other, use `lectopt.compare`.

        Returns:
            A matplotlib figure.
        """
        from lectopt.plots.history import plot_history  # noqa: PLC0415, matplotlib is heavy

        self.check_single()
        return plot_history(
            self.steps,
            self.epochs,
            self.layers,
            step_ends=self.epochs_done,
            epoch_ends=self.epochs_done[self.epoch_ends - 1],
            validations=self.validations,
            validation_ends=self.epochs_done[self.validated_steps - 1],
            layer_ends=self.epochs_done[self.watched_steps],
            baseline_loss=None if self.baseline_loss is None else float(self.baseline_loss),
        )

    @property
    def epochs_done(self) -> np.ndarray:
        """How much of the training is done after each step, in epochs: float64[steps]."""
        return self._over_parts("epochs_done")

    @property
    def epoch_ends(self) -> np.ndarray:
        """How many steps are done at the end of each epoch, int[epochs]; the last epoch may be incomplete."""
        return self._over_parts("epoch_ends")

    @property
    def watched_steps(self) -> np.ndarray:
        """The steps, counted from 0, at which the layers were recorded: int[records]."""
        return self._over_parts("watched_steps")

    @property
    def validated_steps(self) -> np.ndarray:
        """How many steps were done at each of `validations`: int[validations]; none with `validate_every=None`."""
        return self._over_parts("validated_steps")

    @property
    def curves(self) -> dict[str, tuple[np.ndarray, Array]]:
        """The records of epochs and validations with how many steps were done at each: {name: (steps, record)}.

        Of trainings that go on from each other, those that recorded it.
        """
        curves: dict[str, tuple[np.ndarray, Any]] = {}
        for kind, records, steps in (
            ("epochs", self.epochs, self.epoch_ends),
            ("validations", self.validations, self.validated_steps),
        ):
            part = np.repeat(np.arange(len(self.parts)), [getattr(part, kind) for part in self.parts])
            for name, record in records.items():
                if not self.earlier:
                    curves[name] = steps, record
                    continue
                values = np.asarray(record)
                kept = np.isin(part, part[np.isfinite(values)])  # nothing of trainings that did not record it
                before = curves.get(name, (steps[:0], values[:0]))
                places, joined = np.append(before[0], steps[kept]), np.append(before[1], values[kept])
                order = np.argsort(places, kind="stable")
                curves[name] = places[order], joined[order]
        return curves

    @property
    def length(self) -> int:
        """The number of steps, done or not."""
        return np.shape(self.steps["loss"])[-1]

    @property
    def parts(self) -> tuple[Part, ...]:
        """How long the records are of each of the trainings that this joins, the last one its own."""
        rows = {
            "steps": self.length,
            "epochs": _rows(self.epochs),
            "looks": max(map(_rows, self.layers.values()), default=0),
            "validations": _rows(self.validations),
        }
        own = {kind: count - sum(getattr(part, kind) for part in self.earlier) for kind, count in rows.items()}
        every = self.steps_per_epoch, self.watched_every, self.validated_every
        return (*self.earlier, Part(**own, **dict(zip(Part._fields[4:], every, strict=True))))

    def _over_parts(self, name: str) -> np.ndarray:
        """Returns places of all parts, each counted on from those before."""
        places, begin = [], 0.0 if name == "epochs_done" else 0
        for part in self.parts:
            places.append(begin + getattr(part, name))
            begin += part.steps / part.steps_per_epoch if name == "epochs_done" else part.steps
        return np.concatenate(places)

    @property
    def validation_losses(self) -> dict[str, tuple[np.ndarray, Array]]:
        """Those of `curves` that are losses of validation sets, that of "valid" first: {name: (steps, record)}."""
        losses = {name: x for name, x in self.curves.items() if name.endswith("_loss") and name != "train_loss"}
        return dict(sorted(losses.items(), key=lambda item: item[0] != "valid_loss"))

    def to_pandas(self) -> Any:
        """Returns all records as one pandas DataFrame with a row for each step.

        Its columns are "epoch" (how many are done after the step), the records of the steps, those of the epochs and of
        validations, at their last step, and `<layer> <statistic>`; NaN where nothing was recorded. A name that is
        already taken gets " (2)".

        Raises:
            ValueError: if this holds several trainings.
        """
        self.check_single()
        steps = self.length
        columns = [("epoch", self.epochs_done), *((name, np.asarray(record)) for name, record in self.steps.items())]
        columns += [(name, _placed(record, ends - 1, steps)) for name, (ends, record) in self.curves.items()]
        for layer, statistics in self.layers.items():
            for name, record in statistics.items():
                columns.append((f"{layer} {name}", _placed(record, self.watched_steps, steps)))
        named = dict(zip(unique_names([name for name, _ in columns]), (column for _, column in columns), strict=True))
        return import_pandas().DataFrame(named, index=import_pandas().RangeIndex(steps, name="step"))

    def save(self, path: str | Path) -> None:
        """Writes all records to one .npz file, which `History.load` reads.

        The file replaces what was at `path` in one stroke; if that fails, the old file stays. A symbolic link is
        followed.

        Args:
            path: the path of the file, a string or `pathlib.Path`.

        Raises:
            ValueError: if it cannot be written there; a folder or a device is not replaced.
            TypeError: if path is neither a string nor a `pathlib.Path`.
        """
        save_arrays(checked_path("path", path), {json.dumps(name): array for name, array in self.to_arrays().items()})

    @staticmethod
    def load(path: str | Path) -> "History":
        """Reads what `save` wrote.

        Args:
            path: the path of the file, a string or `pathlib.Path`.

        Returns:
            The history, its records as NumPy arrays.

        Raises:
            FileNotFoundError: if there is nothing at path.
            ValueError: if it is not a history, or one that was damaged.
            TypeError: if path is neither a string nor a `pathlib.Path`.

        Example:
            >>> history.save("history.npz")  # doctest: +SKIP
            >>> again = lo.History.load("history.npz")  # doctest: +SKIP
        """
        path = checked_path("path", path)
        if not path.exists():
            raise FileNotFoundError(f"path must be a file that History.save wrote; there is nothing at {path}")
        try:
            return History.from_arrays({tuple(json.loads(name)): x for name, x in read_arrays(path).items()})
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"path must be a file that History.save wrote; {path} is not: {error}") from error

    def to_arrays(self) -> dict[tuple[str, ...], np.ndarray]:
        """Returns every record under its path, such as ("steps", "loss"), for storage."""
        tree = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if not self.validations:  # as files had it before there were such records
            tree.pop("validated_every")
        tree["earlier"] = np.array(self.earlier) if self.earlier else None
        return dict(zip(paths(tree), map(np.asarray, jax.tree.leaves(tree)), strict=True))

    @staticmethod
    def from_arrays(arrays: Mapping[tuple[str, ...], Array]) -> "History":
        """Puts together the history that `to_arrays` took apart.

        Args:
            arrays: {path: array}, as it was returned, perhaps read from a file since.

        Returns:
            The history.

        Raises:
            KeyError: if a record that every history has is missing.
        """
        layers: OrderedDict[str, dict[str, Array]] = OrderedDict()
        for path, array in arrays.items():
            if path[0] == "layers":
                layers.setdefault(path[1], {})[path[2]] = array
        if ("steps", "loss") not in arrays:
            raise KeyError("steps/loss")
        baseline = arrays.get(("baseline_loss",), arrays.get(("chance",)))  # its name in older files
        unknown = baseline is None or np.isnan(baseline).all()  # earlier versions wrote NaN
        return History(
            steps={path[1]: array for path, array in arrays.items() if path[0] == "steps"},
            epochs={path[1]: array for path, array in arrays.items() if path[0] == "epochs"},
            layers=layers,
            baseline_loss=None if unknown else baseline,
            diverged_at=arrays["diverged_at",],
            steps_per_epoch=int(arrays["steps_per_epoch",]),
            batch_size=int(arrays["batch_size",]),
            watched_every=int(arrays["watched_every",]),
            validations={path[1]: array for path, array in arrays.items() if path[0] == "validations"},
            validated_every=int(arrays.get(("validated_every",), 0)),
            earlier=tuple(Part(*row) for row in np.asarray(arrays.get(("earlier",), ())).tolist()),
        )

    def check_single(self) -> None:
        """Checks that this holds a single training, unlike what `jit(vmap(train))` returns.

        Raises:
            ValueError: if it holds several.
        """
        lanes = np.shape(self.diverged_at)
        if lanes:
            raise ValueError(
                f"this History holds {lanes} trainings; take one: jax.tree.map(lambda leaf: leaf[0], history)"
            )


def _rows(records: Mapping[str, Array]) -> int:
    """Returns how long they are."""
    return max((np.shape(record)[-1] for record in records.values()), default=0)


def _placed(record: Array, places: np.ndarray, steps: int) -> np.ndarray:
    """Returns a column of that many steps with the record at its places."""
    column = np.full(steps, np.nan)
    column[places[: len(record)]] = record
    return column
