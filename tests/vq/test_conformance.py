"""The conformance suite: every registered layer passes it, and every mutant fails the check meant for it."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import SkipTest

import pytest
import torch
from torch import Tensor, nn

from geovq.registry import FAMILIES, resolve
from geovq.search import nearest_codes
from geovq.vq import EMAVQ, Quantized, QuantizerLayer, ResidualVQ, StraightThroughVQ
from geovq.vq.bsq import BSQ
from geovq.vq.codebook_layer import CodebookLayer
from geovq.vq.conformance import CHECKS, Candidate, check_layer
from geovq.vq.conformance.candidate import expect
from geovq.vq.cosine import CosineVQ
from geovq.vq.estimators import straight_through
from geovq.vq.fsq import FSQ
from geovq.vq.layer import checked_tokens
from geovq.vq.lfq import LFQ
from geovq.vq.product import ProductVQ

DIM = 4
SIZES = {"n_codes": 8, "n_levels": 2, "n_groups": 2, "levels": (5, 4, 4, 4)}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"


def of_parts(
    component: type[QuantizerLayer],
    *,
    n_codes: int = 8,
    commitment: float = 0.25,
    revival: float = 0.03,
    entropy: float = 0.0,
    **sizes: int,
) -> QuantizerLayer:
    """A layer made of several EMA layers."""
    params = {"n_codes": n_codes, "commitment": commitment, "revival": revival, "entropy": entropy}
    return component(DIM, {"kind": "ema", "params": params}, **sizes)


def maker(component: type[QuantizerLayer]) -> Callable[..., QuantizerLayer]:
    """The layer with small sizes; every other argument of its constructor can still be set."""
    parameters = inspect.signature(component).parameters
    sizes = {
        name: SIZES[name]
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and name in SIZES
    }
    if "layer" in parameters:
        return functools.partial(of_parts, component, **sizes)
    return functools.partial(component, dim=DIM, **sizes)


PROJECTED = {
    "fsq projected": functools.partial(FSQ, dim=DIM, levels=[8, 6, 5]),
    "lfq projected": functools.partial(LFQ, dim=DIM, n_bits=6),
    "bsq projected": functools.partial(BSQ, dim=DIM, n_bits=6),
    "cosine projected": functools.partial(CosineVQ, dim=DIM, n_codes=8, code_dim=2),
}
LAYERS = {kind: maker(resolve("layer", kind)) for kind in FAMILIES["layer"]} | PROJECTED


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_every_registered_layer_conforms(check, name):
    check(Candidate(LAYERS[name], dim=DIM))


@pytest.mark.parametrize(
    ("component", "kind", "params"),
    [(ResidualVQ, "fsq", {"levels": [3] * DIM}), (ProductVQ, "lfq", {})],
)
def test_a_layer_made_of_fixed_ones_has_a_fixed_codebook(component, kind, params):
    layer = {"kind": kind, "params": params}
    candidate = Candidate(lambda: component(DIM, layer, 2), dim=DIM)
    for name in ("codebook_learns", "bad_codebooks_are_refused"):
        with pytest.raises(SkipTest, match="fixed by construction"):
            CHECKS[name](candidate)


@pytest.mark.parametrize("kind", FAMILIES["layer"])
def test_a_registered_layer_has_a_small_constructor_and_a_loss_that_is_not_negative(kind):
    component = resolve("layer", kind)
    assert len(inspect.signature(component).parameters) <= 12
    layer = maker(component)().train()
    z = torch.randn(64, DIM, generator=torch.Generator().manual_seed(0))
    assert layer(z).loss >= 0
    assert layer.eval()(z).loss >= 0


class ToyVQ(QuantizerLayer):
    """A layer of a third party, as short as it gets."""

    def __init__(self, dim: int, n_codes: int, commitment: float = 0.25) -> None:
        super().__init__()
        if n_codes < 2 or commitment < 0:
            raise ValueError(f"n_codes is {n_codes} and commitment {commitment}; expected 2 and 0 or more")
        self.dim, self.commitment = dim, commitment
        draws = torch.Generator().manual_seed(0)
        self.codebook = nn.Parameter(torch.randn(n_codes, dim, generator=draws))

    @property
    def n_codes(self) -> tuple[int, ...]:
        return (len(self.codebook),)

    def lookup(self, codes: Tensor) -> Tensor:
        if codes.min() < 0 or codes.max() >= len(self.codebook):
            raise ValueError(f"codes are {codes.min()} to {codes.max()}; expected 0 to {self.n_codes[0] - 1}")
        return self.codebook[codes]

    def forward(self, z: Tensor) -> Quantized:
        flat = checked_tokens("ToyVQ", z, self.dim)
        with torch.autocast(z.device.type, enabled=False):
            codes = nearest_codes(flat.detach(), self.codebook.detach())
            e = self.lookup(codes)
            loss = (flat.detach() - e).square().sum(1).mean()
            loss = loss + self.commitment * (flat - e.detach()).square().sum(1).mean()
            z_q = e.detach() + (flat - flat.detach())
        return Quantized(z_q.reshape(z.shape), codes.reshape(z.shape[:-1]), loss)


def test_a_short_layer_of_a_third_party_passes_and_what_does_not_apply_is_named():
    skipped = check_layer(functools.partial(ToyVQ, dim=DIM, n_codes=8), dim=DIM)
    assert skipped == {
        "bad_codebooks_are_refused": "ToyVQ: bad_codebooks_are_refused: its codebook is fixed by "
        "construction",
        "revived_codes_live": "ToyVQ: revived_codes_live: its stats count no 'revived' codes",
        "processes_learn_what_one_does": "ToyVQ: processes_learn_what_one_does: its codebook moves by "
        "gradients, which the model averages",
    }


class SwappedBeta(StraightThroughVQ):
    def _loss(self, flat, quantized):
        to_codes = (flat - quantized.detach()).square().sum(1).mean()
        return to_codes + self.commitment * (flat.detach() - quantized).square().sum(1).mean()


class LossAfterTheEstimator(EMAVQ):
    def _loss(self, flat, quantized):
        return (
            super()._loss(flat, flat)
            + self.commitment * (flat - straight_through(flat, quantized)).square().sum(1).mean()
        )


class CodebookTermWithoutDetach(StraightThroughVQ):
    def _loss(self, flat, quantized):
        return CodebookLayer._loss(self, flat, quantized) + (flat - quantized).square().sum(1).mean()


class CodebookWithoutGradient(StraightThroughVQ):
    def _loss(self, flat, quantized):
        return CodebookLayer._loss(self, flat, quantized)


class NoStraightThrough(EMAVQ):
    def _estimate(self, flat, quantized):
        return quantized + 0 * flat


class SummedLoss(EMAVQ):
    def _loss(self, flat, quantized):
        return super()._loss(flat, quantized) * len(flat)


class NegatedGradient(EMAVQ):
    def _estimate(self, flat, quantized):
        return straight_through(-flat, quantized)


class DoubledGradient(EMAVQ):
    def _estimate(self, flat, quantized):
        return straight_through(2 * flat, quantized)


class TinyGradient(EMAVQ):
    def _estimate(self, flat, quantized):
        return straight_through(flat / len(flat), quantized)


class LossOfMeansOverDimensions(EMAVQ):
    def _loss(self, flat, quantized):
        return super()._loss(flat, quantized) / self.dim


class DoubledLoss(EMAVQ):
    def _loss(self, flat, quantized):
        return 2 * super()._loss(flat, quantized)


class ReversedCodebookTerm(StraightThroughVQ):
    def _loss(self, flat, quantized):
        return CodebookLayer._loss(self, flat, quantized) - (flat.detach() - quantized).square().sum(1).mean()


class UpdatesInEvaluation(EMAVQ):
    def forward(self, z):
        found = super().forward(z)
        if not self.training:
            flat = z.detach().float().reshape(-1, self.dim)
            self._move(flat, found.codes.reshape(-1), self.n_codes[0] / len(flat))
        return found


class SumsOutliveRevival(EMAVQ):
    def _overwrite(self, rows, vectors):
        self.codebook[rows] = vectors
        if rows.all():
            self.sums[rows] = vectors


class RevivalBeforeTheUpdate(EMAVQ):
    def _move(self, flat, codes, to_relative):
        super()._move(flat, codes, to_relative)
        self.kept = self.codebook.clone()

    def _overwrite(self, rows, vectors):
        super()._overwrite(rows, vectors)
        if not rows.all():
            self.codebook.copy_(self.kept)


class CodesInHalfPrecision(EMAVQ):
    def forward(self, z):
        found = super().forward(z)
        codes = found.codes.to(z.dtype).long().clamp(max=self.n_codes[0] - 1)
        return dataclasses.replace(found, codes=codes)


class AveragesInHalfPrecision(EMAVQ):
    half = False

    def forward(self, z):
        self.half = torch.is_autocast_enabled(z.device.type)
        return super().forward(z)

    def _move(self, flat, codes, to_relative):
        super()._move(flat.bfloat16().float() if self.half else flat, codes, to_relative)


class SumsOfOneProcess(EMAVQ):
    def _move(self, flat, codes, to_relative):
        batch_sums = torch.zeros_like(self.sums).index_add_(0, codes, flat)
        self.sums.lerp_(batch_sums * to_relative, 1 - self.decay)
        self.codebook.copy_(self.sums / self.usage[:, None])


class MeanOfOneProcess(EMAVQ):
    def __init__(self, dim: int, n_codes: int, *, seed: int = 0) -> None:
        super().__init__(dim, n_codes, seed=seed)
        self.register_buffer("seen", torch.zeros(dim))

    def _move(self, flat, codes, to_relative):
        super()._move(flat, codes, to_relative)
        self.seen.copy_(flat.mean(0))


class AcceptsNaN(EMAVQ):
    def forward(self, z):
        return super().forward(z.nan_to_num() if z.numel() else z)


class AcceptsNegativeWeights(EMAVQ):
    def __init__(self, dim: int, n_codes: int, *, commitment: float = 0.25, seed: int = 0) -> None:
        super().__init__(dim, n_codes, commitment=abs(commitment), seed=seed)


class AcceptsLargerCodebooks(EMAVQ):
    def start_from(self, codebook):
        book = codebook if isinstance(codebook, Tensor) else codebook[0]
        super().start_from(book[: self.n_codes[0]])


class AcceptsAnyCode(EMAVQ):
    def lookup(self, codes):
        return self.codebook[codes % len(self.codebook)]


class StateThatIsNotSaved(EMAVQ):
    def __init__(self, dim: int, n_codes: int, *, seed: int = 0) -> None:
        super().__init__(dim, n_codes, seed=seed)
        self.register_buffer("sums", self.sums, persistent=False)


class CodesOfTheBatch(EMAVQ):
    def _assign(self, flat):
        return super()._assign(flat if self.training else flat - 0.3 * flat.mean(0))


class LastOfEquals(EMAVQ):
    def _assign(self, flat):
        return len(self.codebook) - 1 - nearest_codes(flat, self.codebook.flip(0))


class RoundedOutput(EMAVQ):
    def forward(self, z):
        found = super().forward(z)
        if not self.training:
            found = dataclasses.replace(found, z_q=z + (self.lookup(found.codes) - z).detach())
        return found


class QuantizesAfterItsUpdate(EMAVQ):
    def forward(self, z):
        found = super().forward(z)
        return dataclasses.replace(found, z_q=straight_through(z.float(), self.lookup(found.codes)))


class CodebookBeforeItsProjection(EMAVQ):
    def lookup(self, codes):
        return super().lookup(codes) + 1e-3

    def _quantize(self, flat):
        codes = self._assign(flat)
        quantized = self.lookup(codes)
        return codes, self._estimate(flat, quantized), self._loss(flat, quantized)


class WrongBits(EMAVQ):
    bits = 7.0


class LossOfOneEntry(EMAVQ):
    def _loss(self, flat, quantized):
        return super()._loss(flat, quantized)[None]


class AttachedStats(StraightThroughVQ):
    def forward(self, z):
        found = super().forward(z)
        return dataclasses.replace(found, stats={**found.stats, "loss": found.loss})


class DrawsFromTheGlobalGenerator(EMAVQ):
    def forward(self, z):
        torch.rand(())
        return super().forward(z)


class CopiesShareTheirAges(EMAVQ):
    def __deepcopy__(self, memo):
        ages = self.watch.age
        twin = self.__new__(type(self))
        memo[id(self)], memo[id(ages)] = twin, ages
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin


class AnotherLayerWhenCompiled(EMAVQ):
    def _estimate(self, flat, quantized):
        found = super()._estimate(flat, quantized)
        return 1.01 * found if torch.compiler.is_compiling() else found


class CannotStartWhenCompiled(EMAVQ):
    def forward(self, z):
        if torch.compiler.is_compiling() and not self.started:
            raise RuntimeError("no start in a graph")
        return super().forward(z)


class AcceptsNaNWhenCompiled(EMAVQ):
    def forward(self, z):
        return super().forward(z.nan_to_num() if torch.compiler.is_compiling() else z)


MUTANTS = {
    SwappedBeta: {"commitment_moves_the_encoder_alone": "beta on the wrong term"},
    LossAfterTheEstimator: {"commitment_moves_the_encoder_alone": "after the straight-through estimator"},
    CodebookTermWithoutDetach: {"commitment_moves_the_encoder_alone": "codebook term without its detach"},
    CodebookWithoutGradient: {"codebook_learns": "no finite gradient of codebook"},
    NoStraightThrough: {
        "gradient_reaches_the_input": "missing straight-through estimator",
        "gradient_keeps_its_direction": "or none",
    },
    NegatedGradient: {"gradient_keeps_its_direction": "is -1 times .* wrong sign"},
    DoubledGradient: {"gradient_keeps_its_direction": "found 2 times .* applied twice"},
    TinyGradient: {"gradient_keeps_its_direction": r"0\.0156 times the size"},
    SummedLoss: {
        "loss_is_a_mean_over_vectors": "a sum over vectors",
        "commitment_is_the_squared_distance": "a factor besides the commitment",
    },
    LossOfMeansOverDimensions: {"commitment_is_the_squared_distance": "a mean over d"},
    DoubledLoss: {"commitment_is_the_squared_distance": "a factor besides the commitment"},
    ReversedCodebookTerm: {
        "codebook_term_lowers_the_distortion": "with the wrong sign",
        "revived_codes_live": "no code revived",
    },
    UpdatesInEvaluation: {"evaluation_changes_nothing": "codebook, sums of a new layer"},
    SumsOutliveRevival: {"revived_codes_live": "averages .* that were not reset"},
    RevivalBeforeTheUpdate: {"revived_codes_live": "overwritten in the same step"},
    CodesInHalfPrecision: {"codes_survive_half_precision": "bfloat16 as input.* indices in half precision"},
    AveragesInHalfPrecision: {"training_survives_half_precision": "moving averages in half precision"},
    SumsOfOneProcess: {
        "processes_share_a_codebook": "revivals, statistics or the start not reduced",
        "processes_learn_what_one_does": "instead of sums over all vectors",
    },
    MeanOfOneProcess: {"processes_share_a_codebook": "found other seen after step 1"},
    AcceptsNaN: {"bad_vectors_are_refused": "z with a NaN accepted"},
    AcceptsNegativeWeights: {"bad_settings_are_refused": r"commitment=-1\.0 accepted"},
    AcceptsLargerCodebooks: {"bad_codebooks_are_refused": "a codebook of 9 codes accepted"},
    AcceptsAnyCode: {"bad_codes_are_refused": "a code -1 accepted"},
    StateThatIsNotSaved: {"state_dict_is_everything": "state that is no buffer"},
    CodesOfTheBatch: {"codes_do_not_depend_on_the_batch": "statistics of the batch"},
    LastOfEquals: {"nearest_code_of_a_code_is_itself": "2 of 8 that differ"},
    RoundedOutput: {"output_is_the_codes_vectors": r"z \+ sg\(e - z\)"},
    QuantizesAfterItsUpdate: {"training_output_is_the_codes_vectors": "moves before it quantizes"},
    CodebookBeforeItsProjection: {"codebook_is_what_lookup_gives": r"up to 0\.001 from"},
    WrongBits: {"alphabets_and_bits": r"found 7\.0 bits; expected 3\.0"},
    LossOfOneEntry: {"shapes_and_types": "one finite number"},
    AttachedStats: {"stats_are_detached_numbers": "stats\\['loss'\\] with a gradient"},
    DrawsFromTheGlobalGenerator: {"global_generator_is_left_alone": "a draw from the global generator"},
    CopiesShareTheirAges: {"copies_are_independent": r"watch\.age"},
    AnotherLayerWhenCompiled: {"compiled_is_the_same": "z_q up to"},
    CannotStartWhenCompiled: {"compiled_is_the_same": "no start in a graph"},
    AcceptsNaNWhenCompiled: {"compiled_is_the_same": "z with a number nan, compiled accepted"},
}


def failures(make: Callable[..., QuantizerLayer], names: list[str]) -> dict[str, str]:
    """What fails of the checks named."""
    found = {}
    for name in names:
        try:
            CHECKS[name](Candidate(make, dim=DIM))
        except SkipTest:
            pass
        except AssertionError as error:
            found[name] = str(error)
    return found


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_fails_the_check_meant_for_it_and_no_other(mutant):
    expected = MUTANTS[mutant]
    # Tracing takes longer than all other checks together, and sees nothing that they see.
    names = [name for name in CHECKS if name in expected or name != "compiled_is_the_same"]
    found = failures(functools.partial(mutant, dim=DIM, n_codes=8), names)
    assert found.keys() == expected.keys()
    for name, line in found.items():
        assert "\n" not in line
        assert line.startswith(f"{mutant.__name__}: {name}: found ")
        assert "; expected " in line
        assert re.search(expected[name], line), line


def test_every_check_has_a_mutant():
    assert {name for checks in MUTANTS.values() for name in checks} == set(CHECKS)


def test_all_failures_are_told_at_once_one_a_line(monkeypatch):
    names = ("alphabets_and_bits", "shapes_and_types", "loss_is_a_mean_over_vectors")
    monkeypatch.setattr("geovq.vq.conformance.CHECKS", {name: CHECKS[name] for name in names})

    class TwoFaults(WrongBits, SummedLoss):
        pass

    with pytest.raises(AssertionError) as raised:
        check_layer(lambda: TwoFaults(DIM, 8), dim=DIM)
    assert [line.split(":")[1].strip() for line in str(raised.value).splitlines()] == [
        "alphabets_and_bits",
        "loss_is_a_mean_over_vectors",
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("commitment_moves_the_encoder_alone", "make takes no argument 'commitment'"),
        ("bad_settings_are_refused", "make takes neither 'n_codes' nor 'commitment'"),
        ("processes_share_a_codebook", "make cannot be sent to another process"),
    ],
)
def test_a_check_that_make_does_not_allow_is_skipped_and_says_so(name, reason):
    with pytest.raises(SkipTest, match=reason):
        CHECKS[name](Candidate(lambda: EMAVQ(DIM, 8), dim=DIM))


class NoisyInTraining(EMAVQ):
    def _estimate(self, flat, quantized):
        found = straight_through(flat, quantized)
        return found + 1e-3 * self.seed if self.training else found


def test_a_layer_that_draws_noise_in_training_need_not_give_its_codes_vectors_there():
    candidate = Candidate(functools.partial(NoisyInTraining, dim=DIM, n_codes=8), dim=DIM)
    with pytest.raises(SkipTest, match="depends on its seed in training"):
        CHECKS["training_output_is_the_codes_vectors"](candidate)
    CHECKS["output_is_the_codes_vectors"](candidate)


def test_an_error_that_no_check_foresees_is_one_line_too():
    class Broken(EMAVQ):
        def lookup(self, codes):
            raise RuntimeError("first\nsecond")

    with pytest.raises(
        AssertionError, match=r"^Broken: output_is.*found RuntimeError \(first second\); expected"
    ):
        CHECKS["output_is_the_codes_vectors"](Candidate(lambda: Broken(DIM, 8), dim=DIM))


def test_what_is_satisfied_raises_nothing():
    expect(True, "a", "b", "c")


def test_the_page_runs_on_a_layer_of_ones_own(monkeypatch, capsys):
    module = ModuleType("my_layers")
    module.MyVQ = ToyVQ
    monkeypatch.setitem(sys.modules, "my_layers", module)
    names: dict[str, Any] = {"__name__": "__main__"}
    with_pytest, without = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(with_pytest, str(PAGE), "exec"), names)
    (mark,) = names["test_my_layer"].pytestmark
    assert mark.args[0] == "check" and list(mark.args[1]) == list(CHECKS.values())
    names["test_my_layer"](CHECKS["shapes_and_types"])
    monkeypatch.setattr(
        "geovq.vq.conformance.CHECKS",
        {name: CHECKS[name] for name in ("shapes_and_types", "revived_codes_live")},
    )
    exec(compile(without, str(PAGE), "exec"), names)
    assert capsys.readouterr().out == "ToyVQ: revived_codes_live: its stats count no 'revived' codes\n"
