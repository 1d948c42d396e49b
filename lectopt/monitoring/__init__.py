"""What a training shows of itself: layers inspected and rescaled, a task checked before training, a run diagnosed
after it.

Imports `training` and what stands below it.
"""

from lectopt.monitoring.diagnosis import Diagnosis as Diagnosis
from lectopt.monitoring.diagnosis import diagnose as diagnose
from lectopt.monitoring.inspection import inspect as inspect
from lectopt.monitoring.rescaling import rescale as rescale
from lectopt.monitoring.sanity_check import check as check
