"""Linear vector-quantized autoencoders: the smallest model in which gradient estimators can be compared.

Every method is a file with one function ``train(X_train, X_eval, m, K, ...)`` and a name in the registry's
family "linear-method".
"""

from geovq.linear.data import low_rank_gaussian
from geovq.linear.measure import evaluate
from geovq.linear.model import LinearVQVAE
from geovq.linear.result import TrainingResult

__all__ = ["LinearVQVAE", "TrainingResult", "evaluate", "low_rank_gaussian"]
