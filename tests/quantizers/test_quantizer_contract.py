"""The contract, kept by every registered quantizer in all its settings."""

import pytest
from quantizer_contract import QuantizerContract, name_of, registered_specs
from sklearn.utils.estimator_checks import parametrize_with_checks

from geovq.registry import build


@parametrize_with_checks([build("quantizer", spec) for spec in registered_specs()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("spec", registered_specs(), ids=name_of)
class TestRegisteredQuantizers(QuantizerContract):
    pass
