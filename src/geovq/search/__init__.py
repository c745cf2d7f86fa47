"""Finding codes: nearest in chunks, beam over levels, k-means with pinned settings; one of each."""

from geovq.search.beam import beam_search, beam_sums, extend_beams
from geovq.search.cells import EqualRows, cell_means, distinct_rows
from geovq.search.kmeans import MAX_POINTS_PER_CODE, kmeans
from geovq.search.lloyd_max import SortedValues, nearest_levels
from geovq.search.nearest import (
    lowest_scores,
    nearest_codes,
    nearest_codes_and_distances,
    nearest_codes_weighted,
    relative_precisions,
)
from geovq.search.nearest_quadratic import nearest_codes_quadratic
from geovq.search.sampling import sample_rows

__all__ = [
    "MAX_POINTS_PER_CODE",
    "EqualRows",
    "SortedValues",
    "beam_search",
    "beam_sums",
    "cell_means",
    "distinct_rows",
    "extend_beams",
    "kmeans",
    "lowest_scores",
    "nearest_codes",
    "nearest_codes_and_distances",
    "nearest_codes_quadratic",
    "nearest_codes_weighted",
    "nearest_levels",
    "relative_precisions",
    "sample_rows",
]
