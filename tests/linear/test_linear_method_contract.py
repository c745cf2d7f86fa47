"""Every registered method keeps the contract, under one signature."""

import inspect

import pytest
from linear_method_contract import LinearMethodContract

from geovq.registry import FAMILIES, resolve


class TestRegisteredLinearMethods(LinearMethodContract):
    @pytest.fixture(params=FAMILIES["linear-method"])
    def kind(self, request):
        return request.param

    def test_it_has_the_signature_of_all(self, kind):
        method = resolve("linear-method", kind)
        assert inspect.signature(method) == inspect.signature(resolve("linear-method", "ste-manual"))
        defaults = {p.name: p.default for p in inspect.signature(method).parameters.values() if p.kind == 3}
        assert defaults == {
            "steps": 200,
            "batch": 1024,
            "alpha": 1.0,
            "beta": 0.25,
            "lrW": 0.08,
            "lrE": 0.2,
            "orthonormal": True,
            "seed": 0,
            "log_every": 10,
        }
