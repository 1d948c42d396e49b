"""What is wrong with a training, and how one sees it.

Before training, `check` tries a task and its data, and `rescale` adapts the initial weights; `inspect` reports on the
layers at one minibatch; after training, `diagnose` reads the records of a run. What they find are `Finding`s, judged by
the numbers in `thresholds`.

Imports `plots`, `norms`, `optim`, `data`, `tasks`, `training` and `_internal`.
"""

from lectopt.monitoring.diagnosis import Diagnosis as Diagnosis
from lectopt.monitoring.diagnosis import diagnose as diagnose
from lectopt.monitoring.inspection import inspect as inspect
from lectopt.monitoring.rescaling import rescale as rescale
from lectopt.monitoring.sanity_check import check as check
