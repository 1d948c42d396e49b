"""Neural architecture search: the space of networks, children as masks of its largest network, the search, its results.

Imports `strategies`, `engine`, and what a training needs: `training`, `tasks`, `data`, `norms`, `optim`, `plots`,
`_internal`.
"""

from lectopt.architecture.design import Architecture as Architecture
from lectopt.architecture.design import Layer as Layer
from lectopt.architecture.searching import search_architecture as search_architecture
from lectopt.architecture.space import ArchitectureSpace as ArchitectureSpace
