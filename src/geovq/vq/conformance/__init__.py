"""What every quantizer layer must keep, as checks that anyone can run on a layer of their own.

Every check is against a bug that some published implementation had. With pytest::

    @pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
    def test_my_layer(check):
        check(Candidate(functools.partial(MyLayer, dim=4, n_codes=8), dim=4))

and without: ``check_layer(functools.partial(MyLayer, dim=4, n_codes=8), dim=4)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from unittest import SkipTest

from geovq.vq.conformance.candidate import Candidate
from geovq.vq.conformance.codes import (
    codebook_is_what_lookup_gives,
    codes_do_not_depend_on_the_batch,
    codes_survive_half_precision,
    nearest_code_of_a_code_is_itself,
    output_is_the_codes_vectors,
    training_output_is_the_codes_vectors,
    training_survives_half_precision,
)
from geovq.vq.conformance.compiled import compiled_is_the_same
from geovq.vq.conformance.gradients import (
    codebook_learns,
    commitment_moves_the_encoder_alone,
    gradient_reaches_the_input,
    loss_is_a_mean_over_vectors,
)
from geovq.vq.conformance.interface import alphabets_and_bits, shapes_and_types, stats_are_detached_numbers
from geovq.vq.conformance.processes import processes_learn_what_one_does, processes_share_a_codebook
from geovq.vq.conformance.refusals import (
    bad_codebooks_are_refused,
    bad_codes_are_refused,
    bad_settings_are_refused,
    bad_vectors_are_refused,
)
from geovq.vq.conformance.revival import revived_codes_live
from geovq.vq.conformance.sizes import (
    codebook_term_lowers_the_distortion,
    commitment_is_the_squared_distance,
    gradient_keeps_its_direction,
)
from geovq.vq.conformance.state import (
    copies_are_independent,
    evaluation_changes_nothing,
    global_generator_is_left_alone,
    state_dict_is_everything,
)
from geovq.vq.layer import QuantizerLayer

__all__ = ["CHECKS", "Candidate", "check_layer"]

CHECKS: Mapping[str, Callable[[Candidate], None]] = {
    check.__name__: check
    for check in (
        alphabets_and_bits,
        shapes_and_types,
        stats_are_detached_numbers,
        bad_vectors_are_refused,
        bad_settings_are_refused,
        bad_codebooks_are_refused,
        bad_codes_are_refused,
        output_is_the_codes_vectors,
        training_output_is_the_codes_vectors,
        codebook_is_what_lookup_gives,
        nearest_code_of_a_code_is_itself,
        codes_do_not_depend_on_the_batch,
        codes_survive_half_precision,
        training_survives_half_precision,
        commitment_moves_the_encoder_alone,
        codebook_learns,
        gradient_reaches_the_input,
        loss_is_a_mean_over_vectors,
        gradient_keeps_its_direction,
        codebook_term_lowers_the_distortion,
        commitment_is_the_squared_distance,
        evaluation_changes_nothing,
        state_dict_is_everything,
        global_generator_is_left_alone,
        copies_are_independent,
        revived_codes_live,
        compiled_is_the_same,
        processes_share_a_codebook,
        processes_learn_what_one_does,
    )
}


def check_layer(make: Callable[..., QuantizerLayer], *, dim: int) -> dict[str, str]:
    """Run every check on the layers that ``make`` gives, which quantize vectors of width ``dim``.

    Returns the checks that do not apply, with the reason. Raises ``AssertionError`` with one line a failed
    check, that says what was found, what was expected and which bug it usually is. ``make`` as for
    ``Candidate``.
    """
    candidate = Candidate(make, dim=dim)
    skipped, failures = {}, []
    for name, check in CHECKS.items():
        try:
            check(candidate)
        except SkipTest as reason:
            skipped[name] = str(reason)
        except AssertionError as failure:
            failures.append(str(failure))
    if failures:
        raise AssertionError("\n".join(failures))
    return skipped
