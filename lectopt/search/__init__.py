"""Hyperparameter and architecture search: hundreds of trainings side by side in one compiled program."""

from lectopt.search.architecture.design import Architecture as Architecture
from lectopt.search.architecture.design import Layer as Layer
from lectopt.search.choices import Record as Record
from lectopt.search.evolution import evolve as evolve
from lectopt.search.random_search import random_choices as random_choices
from lectopt.search.reinforcement import ZOPH_LE as ZOPH_LE
from lectopt.search.reinforcement import Controller as Controller
from lectopt.search.reinforcement import reinforce as reinforce
