"""Searches over vectors of choices: a controller that learns by REINFORCE, regularized evolution, random choices.

They propose vectors round by round and learn from the scores, side by side in one compiled program. They know nothing
of networks. Imports `engine`, `optim` and `_internal`.
"""

from lectopt.strategies.choices import Record as Record
from lectopt.strategies.evolution import evolve as evolve
from lectopt.strategies.random_search import random_choices as random_choices
from lectopt.strategies.reinforcement import ZOPH_LE as ZOPH_LE
from lectopt.strategies.reinforcement import Controller as Controller
from lectopt.strategies.reinforcement import reinforce as reinforce
