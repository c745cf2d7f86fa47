"""Adding a quantizer takes one class and one registry line: this one then keeps the whole contract."""

import pytest
import torch
from quantizer_contract import QuantizerContract
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import check_estimator

from geovq.config import Spec
from geovq.quantizers.base import Quantizer, as_tensor
from geovq.registry import FAMILIES, register
from geovq.search import kmeans, nearest_codes


class CityBlockQuantizer(Quantizer):
    """Nearest Euclidean mean by city-block distance."""

    def __init__(self, n_codes=8, random_state=None):
        self.n_codes = n_codes
        self.random_state = random_state

    def _fit(self, points, sigma, metric, seed):
        self.codebook_ = kmeans(points, self.n_codes, seed)

    def _encode(self, points, sigma, metric):
        codebook = as_tensor(self.codebook_).to(points.dtype)
        codes = torch.cdist(points, codebook, p=1).argmin(1)
        return nearest_codes(codebook, codebook)[codes]


class TestToyQuantizer(QuantizerContract):
    @pytest.fixture
    def spec(self, monkeypatch):
        monkeypatch.setitem(FAMILIES, "quantizer", dict(FAMILIES["quantizer"]))
        register("quantizer", "city-block", f"{__name__}:CityBlockQuantizer")
        return Spec("city-block")


@pytest.mark.filterwarnings("ignore", category=SkipTestWarning)
def test_toy_passes_scikit_learn_checks():
    check_estimator(CityBlockQuantizer())
