"""What is learned from all targets, where examples are on disk: they alone are read into memory, if need be."""

from collections.abc import Mapping

import jax
import numpy as np

from lectopt.data.memory_maps import is_on_disk
from lectopt.data.subsets import Subset, as_subset
from lectopt.training.arguments import TrainingArguments
from lectopt.training.carry import Data
from lectopt.training.example_weights import as_weights
from lectopt.training.starting import Start
from lectopt.training.validation_arguments import as_weights_of_validation


def learn_weights(given: TrainingArguments) -> np.ndarray:
    """Returns weights of all examples, of mean 1: float32[n]."""
    return np.asarray(as_weights(given.weights, _targets_for_weights(given), given.task))


def weighted_data(given: TrainingArguments, data: Data) -> Data:
    """Returns the data with the weights of validation, if it is to be weighted as training is."""
    train = data.train if given.weights is None else _targets_for_weights(given)
    weights = as_weights_of_validation(given.weight_validation, given.weights, data.valid, train, given.task)
    return data._replace(valid_weights=weights)


def start_with_targets(given: TrainingArguments, start: Start) -> Start:
    """Returns where to start from, with all targets if an output bias is to be learned from them."""
    if given.task.output_bias is None or start.params is not None or not is_on_disk(given.train):
        return start
    return start._replace(targets=_targets(given))


def _targets(given: TrainingArguments) -> Subset:
    return as_subset(tuple(jax.tree.map(np.array, given.train[-1:])), "train")


def _targets_for_weights(given: TrainingArguments) -> Subset:
    """Returns the targets, or as many zeros where weights do not depend on them."""
    first = jax.tree.map(lambda a: np.asarray(a[:1]), given.train[-1])
    counted = given.task.has_targets and given.task.counts(first) is not None
    if counted or isinstance(given.weights, (str, Mapping)):
        return _targets(given)
    return as_subset((np.zeros(len(jax.tree.leaves(given.train)[0]), np.float32),))
