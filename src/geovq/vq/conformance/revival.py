"""A code brought back to life stays where it was put, and is used."""

from __future__ import annotations

from unittest import SkipTest

import torch

from geovq.vq.conformance.candidate import (
    N_VECTORS,
    Candidate,
    Mismatch,
    books,
    check,
    evaluated,
    expect,
    take_step,
)
from geovq.vq.layer import QuantizerLayer

MOST_STEPS = 400  # an average with decay 0.99 falls below 0.03 in 350
FAR = 0.05  # more than a code of the crowd moves in a step


@check
def revived_codes_live(candidate: Candidate) -> None:
    """Revived codes are used in the next step, and are not pulled back by it.

    For layers of one level whose ``stats`` count what they ``revived``. All vectors of a batch are put so
    near one code that the others die. ``revival`` is set to 0.5 and ``entropy`` to 0.1, if ``make`` takes
    them.
    """
    layer = candidate.trained(**candidate.taken(revival=0.5, entropy=0.1))
    if len(layer.n_codes) > 1:
        raise SkipTest("it has several levels; examine a single one")
    crowd = _crowd(candidate, layer)
    for _ in range(MOST_STEPS):
        before = books(layer)[0]
        found = take_step(layer, crowd)
        if "revived" not in found.stats:
            raise SkipTest("its stats count no 'revived' codes")
        n_revived = int(found.stats["revived"])
        if n_revived:
            break
    else:
        if candidate.takes("revival"):
            raise Mismatch(f"no code revived in {MOST_STEPS} steps", "all but one", "use that does not decay")
        raise SkipTest(f"it revived no code in {MOST_STEPS} steps")
    after = books(layer)[0]
    way = (after - before).norm(dim=1)
    revived = way > FAR
    expect(
        int(revived.sum()) >= n_revived,
        f"{int(revived.sum())} codes put elsewhere by a step that revived {n_revived}",
        f"at least {n_revived}",
        "a revived code overwritten in the same step by its old averages",
    )
    used = torch.zeros_like(revived)
    used[evaluated(layer, crowd).codes] = True
    expect(
        bool(used[revived].all()),
        f"{int((revived & ~used).sum())} revived codes that the next forward does not use",
        "none",
        "codes put where no vector is, or several at the same place",
    )
    take_step(layer, crowd)
    back = float(((books(layer)[0] - after).norm(dim=1) / way)[revived].max())
    expect(
        back < 0.1,
        f"revived codes that moved {back:.2g} times the way they had come, in the next step",
        "less than 0.1",
        "averages (sums, counts) that were not reset on revival",
    )


def _crowd(candidate: Candidate, layer: QuantizerLayer) -> torch.Tensor:
    """Different vectors around the mean of the vectors with the commonest code: where no other code is."""
    z = candidate.vectors(500, step=5)
    codes = evaluated(layer, z).codes
    centre = z[codes == codes.mode().values].mean(0)
    return centre + 1e-3 * candidate.vectors(N_VECTORS, step=6)
