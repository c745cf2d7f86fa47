"""What each level of a hierarchical arm carries, as rows of images."""

from __future__ import annotations

from geovq.reports.pictures import Picture, contact_sheet
from geovq.reports.run_files import RunFiles
from geovq.reports.tables import ordered_arms

N_IMAGES = 8


def level_rows(run: RunFiles) -> list[tuple[str, list[tuple[str, Picture]]]]:
    """Test images for each hierarchical arm, and the same decoded from one level, from two, and so on."""
    shown = []
    for arm, bits in ordered_arms(run.records):
        found = run.levels(arm, bits)
        if found is None:
            continue
        names, tensors = found
        rows = [
            ("original", contact_sheet(tensors["originals"][:N_IMAGES], N_IMAGES, "Original test images."))
        ]
        for level in range(len(names)):
            words = " + ".join(names[: level + 1])
            alt = f"The same images decoded by {arm} from {words}, finer levels at their mean."
            rows.append((words, contact_sheet(tensors[str(level)][:N_IMAGES], N_IMAGES, alt)))
        shown.append((arm, rows))
    return shown
