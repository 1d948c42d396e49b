"""Checks for exercises: a student's answer beside the lecture's rule, and what the likely mistake is.

`rules` holds the optimizers as plain NumPy loops and the usual mistakes in them; the files beside it hold a check each.
Imports `_internal` only.
"""

from lectopt.exercises.folds_check import check_folds as check_folds
from lectopt.exercises.initializer_check import check_initializer as check_initializer
from lectopt.exercises.norm_check import check_norm as check_norm
from lectopt.exercises.optimizer_check import check_optimizer as check_optimizer
from lectopt.exercises.schedule_check import check_schedule as check_schedule
from lectopt.exercises.verdict import Verdict as Verdict

__all__ = ["Verdict", "check_folds", "check_initializer", "check_norm", "check_optimizer", "check_schedule"]
