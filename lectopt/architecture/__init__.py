"""Neural architecture search: the networks there are, children as masks of one network, the search and its results.

Imports `strategies`, `engine` and what stands below them.
"""

from lectopt.architecture.design import Architecture as Architecture
from lectopt.architecture.design import Layer as Layer
from lectopt.architecture.searching import search_architecture as search_architecture
from lectopt.architecture.space import ArchitectureSpace as ArchitectureSpace
