"""Finding codes: nearest in chunks, beam over levels, k-means with pinned settings; one of each."""

from geovq.search.beam import beam_search, extend_beams
from geovq.search.cells import cell_means, distinct_rows
from geovq.search.kmeans import kmeans
from geovq.search.nearest import (
    lowest_scores,
    nearest_codes,
    nearest_codes_and_distances,
    nearest_codes_weighted,
)
from geovq.search.nearest_quadratic import nearest_codes_quadratic
from geovq.search.sampling import sample_rows

__all__ = [
    "beam_search",
    "cell_means",
    "distinct_rows",
    "extend_beams",
    "kmeans",
    "lowest_scores",
    "nearest_codes",
    "nearest_codes_and_distances",
    "nearest_codes_quadratic",
    "nearest_codes_weighted",
    "sample_rows",
]
