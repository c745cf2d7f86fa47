"""The codebook atlas: what each code decodes to, how many images use it, and some that do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geovq.config import from_json
from geovq.errors import CorruptArtifactError
from geovq.reports.atlas_figures import A_ROW, code_columns, code_grid, percent
from geovq.reports.numbers import rounded
from geovq.reports.pictures import Picture
from geovq.reports.run_files import RunFiles, known_fields
from geovq.reports.tables import Cell, Column, Row, Table
from geovq.storage.artifact import load_artifact

LARGEST, SMALLEST = 32, 20  # pixels of the longer side of a tile
ATLAS_BYTES = 1_000_000  # of the page, over all atlases
COLUMNS = (
    Column("use", "% of test images", about="Test images that have the code at one token at least."),
    Column("examples", about="The test images shown, nearest first, counted from 0."),
)


@dataclass(frozen=True)
class LevelFacts:
    """One level of a codebook: its size, the share of test images that use each code, and, where its tiles
    show changes of the mean image, the change of intensity that is black or white.
    """

    n_codes: int
    use: tuple[float, ...]
    full_change: float | None = None

    @property
    def as_change(self) -> bool:
        """Whether tiles show how a code changes the mean image, not the image that it decodes to."""
        return self.full_change is not None


@dataclass(frozen=True)
class AtlasFacts:
    """Test images that uses were counted on, tokens an image, and every level."""

    n_images: int
    n_tokens: int
    levels: tuple[LevelFacts, ...]


@dataclass(frozen=True)
class AtlasLevel:
    """Codes ``codes (n,)`` of one level, most used first, as ``tiles (n, C, H, W)``; ``featured (f,)`` are
    places of those with ``examples (f, e)``, rows of the test images, -1 for none, and ``images
    (f, e, C, H, W)``.
    """

    facts: LevelFacts
    codes: np.ndarray
    tiles: np.ndarray
    featured: np.ndarray
    examples: np.ndarray
    images: np.ndarray

    @property
    def use(self) -> np.ndarray:
        """Share of test images that use each of ``codes``, (n,)."""
        return np.asarray(self.facts.use)[self.codes]


@dataclass(frozen=True)
class Atlas:
    """The codes of one arm."""

    arm: str
    facts: AtlasFacts
    levels: tuple[AtlasLevel, ...]


@dataclass(frozen=True)
class CodePicture:
    """A picture of codes, what it is called and a note on it."""

    label: str
    note: str
    picture: Picture


@dataclass(frozen=True)
class AtlasView:
    """An atlas as the page shows it: what the pictures mean, the pictures, and their numbers."""

    words: str
    pictures: tuple[CodePicture, ...]
    table: Table


def read_atlas(run: RunFiles, arm: str, bits: float | None) -> Atlas | None:
    """The atlas of an arm at the run's first seed, or None if none is stored."""
    folder = run.arm_folder("atlas", arm, bits)
    if not folder.is_dir():
        return None
    config, tensors = load_artifact(folder)
    known = known_fields(AtlasFacts, config)
    if isinstance(known.get("levels"), list):
        known["levels"] = [known_fields(LevelFacts, level) for level in known["levels"]]
    facts: AtlasFacts = from_json(AtlasFacts, known, str(folder / "config.json"))
    levels = [_read_level(folder, tensors, place, level) for place, level in enumerate(facts.levels)]
    return Atlas(arm, facts, tuple(levels))


def atlas_view(atlas: Atlas, allowed: int) -> AtlasView | None:
    """The atlas in at most ``allowed`` bytes of a page.

    Tiles are reduced as far as that takes; where ``SMALLEST`` pixels take too much, the codes without images
    are left out; None if that is not enough either.
    """
    for whole in (True, False):
        side = LARGEST
        while side >= SMALLEST:
            pictures = _pictures(atlas, side, whole)
            size = sum(len(shown.picture.uri) for shown in pictures)
            if size <= allowed:
                return AtlasView(atlas_words(atlas.facts), pictures, atlas_table(atlas))
            # Bytes grow with the tile's area, about.
            side = min(side - 1, int(side * math.sqrt(max(allowed, 0) / size)))
    return None


def atlas_words(facts: AtlasFacts) -> str:
    """How the codes were decoded, which images stand below them, and what the numbers are."""
    many_levels, changes = len(facts.levels) > 1, [level.as_change for level in facts.levels]
    parts = ["Each code is decoded"]
    others = ["the other levels"] * many_levels + ["the other tokens"] * (facts.n_tokens > 1)
    if others:
        parts.append(f" with {' and '.join(others)} at their mean over the training images")
    if facts.n_tokens > 1:
        parts.append(f", at the one of {facts.n_tokens} tokens where these use it most")
    parts.append(". ")
    if any(changes):
        parts.append("Tiles" if all(changes) else f"From level {changes.index(True) + 1} on, tiles")
        parts.append(" show how a code changes the mean image: brighter or darker, grey where it does not. ")
    if many_levels:
        parts.append("Below each stand test images that use it and whose token, less the levels before, is ")
        parts.append("nearest to it. ")
    else:
        parts.append("Below the most and the least used stand test images that use them and whose token is ")
        parts.append("nearest. ")
    parts.append(f"Numbers are the percentage of the {rounded(facts.n_images)} test images that use a code.")
    return "".join(parts)


def atlas_table(atlas: Atlas) -> Table:
    """Use and examples of every featured code."""
    rows = []
    for place, level in enumerate(atlas.levels):
        for row, index in enumerate(level.featured):
            name = f"code {level.codes[index]}"
            label = f"level {place + 1}, {name}" if len(atlas.levels) > 1 else name
            examples = ", ".join(str(image) for image in level.examples[row] if image >= 0)
            rows.append(Row(label, "", (Cell(percent(level.use[index])), Cell(examples))))
    return Table("code", COLUMNS, tuple(rows))


def _pictures(atlas: Atlas, side: int, whole: bool) -> tuple[CodePicture, ...]:
    if len(atlas.levels) > 1:
        return tuple(_level_picture(atlas, place, side) for place in range(len(atlas.levels)))
    (level,) = atlas.levels
    pictures = [_all_codes(atlas, level, side)] if whole else []
    for label, rows in (("most used", slice(A_ROW)), ("least used", slice(A_ROW, None))):
        if len(level.featured[rows]):
            pictures.append(CodePicture(label, "", _columns(atlas, level, rows, label, 3, side)))
    return tuple(pictures)


def _all_codes(atlas: Atlas, level: AtlasLevel, side: int) -> CodePicture:
    n_shown = len(level.codes)
    label = "all codes" if n_shown == level.facts.n_codes else f"the {n_shown} most used"
    note = "most used first, row by row; bars give the use, codes without use are pale"
    if level.facts.full_change is not None:
        note += f"; white is {rounded(level.facts.full_change)} brighter"
    alt = _alt(atlas, level, f"{n_shown} codes")
    return CodePicture(label, note, code_grid(level.tiles, level.use, alt, side))


def _level_picture(atlas: Atlas, place: int, side: int) -> CodePicture:
    level = atlas.levels[place]
    used = sum(share > 0 for share in level.facts.use)
    notes = [f"{used} of {level.facts.n_codes} codes used"]
    if level.facts.full_change is not None:
        notes.append(f"white is {rounded(level.facts.full_change)} brighter")
    picture = _columns(atlas, level, slice(None), f"most used of level {place + 1}", 2, side)
    return CodePicture(f"level {place + 1}", "; ".join(notes), picture)


def _columns(atlas: Atlas, level: AtlasLevel, rows: slice, which: str, n_examples: int, side: int) -> Picture:
    featured = level.featured[rows]
    alt = _alt(atlas, level, f"The {len(featured)} codes {which}")
    use = ", ".join(map(percent, level.use[featured]))
    alt += f" Below each, test images that use it; use in percent: {use}."
    return code_columns(
        level.tiles[featured], level.use[featured], level.images[rows, :n_examples], alt, side
    )


def _alt(atlas: Atlas, level: AtlasLevel, which: str) -> str:
    what = "the change each makes to the mean image" if level.facts.as_change else "each decoded alone"
    return f"{which} of {atlas.arm}, {what}, most used first."


def _read_level(folder: Path, tensors: dict[str, np.ndarray], place: int, facts: LevelFacts) -> AtlasLevel:
    names = ("codes", "tiles", "featured", "examples", "images")
    arrays = {name: tensors.get(f"{place}.{name}", np.empty(0)) for name in names}
    codes, tiles, featured = arrays["codes"], arrays["tiles"], arrays["featured"]
    shape = arrays["examples"].shape
    sound = {
        "codes": codes.dtype == np.int64 and codes.ndim == 1 and _within(codes, 0, facts.n_codes),
        "tiles": tiles.dtype == np.uint8 and tiles.ndim == 4 and tiles.size > 0 and len(tiles) == len(codes),
        "featured": featured.dtype == np.int64 and featured.ndim == 1 and _within(featured, 0, len(codes)),
        "examples": arrays["examples"].dtype == np.int64 and len(shape) == 2 and shape[:1] == featured.shape,
        "images": arrays["images"].dtype == np.uint8 and arrays["images"].shape == shape + tiles.shape[1:],
    }
    for name, is_sound in sound.items():
        if not is_sound:
            array = arrays[name]
            raise CorruptArtifactError(
                f"{folder}: '{place}.{name}' is {array.dtype} of shape {array.shape} and does not fit an "
                f"atlas of {facts.n_codes} codes; run the stage again"
            )
    if len(facts.use) != facts.n_codes:
        raise CorruptArtifactError(
            f"{folder}: level {place} has {len(facts.use)} uses; expected {facts.n_codes}, one a code; run "
            "the stage again"
        )
    return AtlasLevel(facts, **arrays)


def _within(values: np.ndarray, low: int, high: int) -> bool:
    return len(values) > 0 and bool((values >= low).all() and (values < high).all())
