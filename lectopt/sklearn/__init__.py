"""scikit-learn's estimators, trained by `lo.fit`: `Classifier` and `Regressor`, for pipelines, searches and scores.

`import lectopt` does not import this package, which needs scikit-learn; `import lectopt.sklearn` does. Equal networks
share one task, and so what was compiled. Imports `training`, `tasks`, `data`, `optim`, `_internal`.
"""

import lectopt.sklearn.requirement  # noqa: F401, before what imports scikit-learn
from lectopt.sklearn.classifier import Classifier as Classifier
from lectopt.sklearn.regressor import Regressor as Regressor

__all__ = ["Classifier", "Regressor"]
