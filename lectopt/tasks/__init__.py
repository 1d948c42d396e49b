"""Tasks: a model (NNX, Linen, or a pair of functions), what it is to be good at, and how good it is.

Imports `data`, `norms`, `initializers`, `_internal`.
"""

from lectopt.tasks.metrics import whole_set as whole_set
from lectopt.tasks.standard_tasks import classification as classification
from lectopt.tasks.standard_tasks import regression as regression
from lectopt.tasks.task import Task as Task
