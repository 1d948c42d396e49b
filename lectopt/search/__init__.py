"""Hyperparameter search: spaces and settings, sweeps and cross-validation, halving, selection and nesting, results.

Imports `engine`, and what a training needs: `training`, `tasks`, `data`, `plots`, `_internal`. The namespace
`lectopt.search` also hands on the public names of `strategies` and `architecture`.
"""

from lectopt.architecture import Architecture as Architecture
from lectopt.architecture import Layer as Layer
from lectopt.search import space as space
from lectopt.search.drawing import grid as grid
from lectopt.search.drawing import sample as sample
from lectopt.search.halving import Halving as Halving
from lectopt.search.learning_rate import suggest_learning_rate as suggest_learning_rate
from lectopt.search.nesting import nested_cross_validate as nested_cross_validate
from lectopt.search.population import population as population
from lectopt.search.replicating import replicate as replicate
from lectopt.search.results import Results as Results
from lectopt.search.score_curves import learning_curve as learning_curve
from lectopt.search.score_curves import validation_curve as validation_curve
from lectopt.search.selection import select as select
from lectopt.search.settings import settings as settings
from lectopt.search.sweeping import cross_validate as cross_validate
from lectopt.search.sweeping import sweep as sweep
from lectopt.strategies import ZOPH_LE as ZOPH_LE
from lectopt.strategies import Controller as Controller
from lectopt.strategies import Record as Record
from lectopt.strategies import evolve as evolve
from lectopt.strategies import random_choices as random_choices
from lectopt.strategies import reinforce as reinforce

__all__ = [
    "ZOPH_LE",
    "Architecture",
    "Controller",
    "Halving",
    "Layer",
    "Record",
    "Results",
    "cross_validate",
    "evolve",
    "grid",
    "learning_curve",
    "nested_cross_validate",
    "population",
    "random_choices",
    "reinforce",
    "replicate",
    "sample",
    "select",
    "settings",
    "space",
    "suggest_learning_rate",
    "sweep",
    "validation_curve",
]  # fmt: skip
