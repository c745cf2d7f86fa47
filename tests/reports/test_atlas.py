"""The codebook atlas on the page: the stored tiles in their order, numbers as text, within its size."""

import io
import re
import shutil
from html import unescape

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from geovq.errors import ConfigError, CorruptArtifactError
from geovq.reports import write_report
from geovq.reports.atlas import AtlasFacts, LevelFacts, atlas_table, atlas_view, atlas_words, read_atlas
from geovq.reports.atlas_figures import A_ROW, BAR, code_columns, code_grid, percent
from geovq.reports.pictures import GAP
from geovq.reports.run_files import read_run
from geovq.seeding import numpy_generator
from geovq.storage.artifact import load_artifact, save_artifact

TILE = 32  # 8x8 digits, enlarged four times
ALLOWED = 10**6


def write_atlas(folder, arm, n_levels, n_codes, shape=(1, 8, 8), noise=False, n_unused=2):
    """An atlas of digits, or of noise: the tiles of level l begin with digit l."""
    draw = numpy_generator(0, "atlas")
    digits = (load_digits().images[:, None] * 15).astype(np.uint8)
    levels, tensors = [], {}
    for level in range(n_levels):
        n_shown = n_codes if n_levels == 1 else min(16, n_codes)
        use = np.sort(draw.random(n_codes))[::-1] * 0.4 + 0.01
        use[n_codes - n_unused :] = 0
        n_used = min(n_shown, n_codes - n_unused)
        most = min(n_used, 16)
        featured = np.r_[:most, max(most, n_used - 8) : n_used]
        codes = draw.permutation(n_codes)
        examples = np.sort(draw.integers(0, 300, (len(featured), 3)), axis=1)
        examples[-1, 1:] = -1
        tiles, images = digits[level : level + n_shown], digits[examples]
        if noise:
            tiles = draw.integers(0, 256, (n_shown, *shape), dtype=np.uint8)
            images = draw.integers(0, 256, (*examples.shape, *shape), dtype=np.uint8)
        of_code = np.empty(n_codes)
        of_code[codes] = use
        change = {"full_change": None if level == 0 else 0.25 / level}
        levels.append({"n_codes": n_codes, "use": of_code.tolist(), **change})
        parts = {
            "codes": codes[:n_shown],
            "tiles": tiles,
            "featured": featured,
            "examples": examples,
            "images": images,
        }
        tensors |= {f"{level}.{name}": array for name, array in parts.items()}
    facts = {"kind": "atlas", "arm": arm, "n_images": 300, "n_tokens": 3, "levels": levels}
    save_artifact(folder / "atlas" / arm / "24" / "0", facts, tensors)


@pytest.fixture
def run(finished_run, tmp_path):
    """A run folder with an atlas of one level and one of three."""
    folder = shutil.copytree(finished_run, tmp_path / "copy")
    write_atlas(folder, "kmeans", 1, 40)
    write_atlas(folder, "residual", 3, 20)
    return folder


def atlas_of(folder, arm):
    return read_atlas(read_run(folder), arm, 24)


def pixels_of(picture):
    return np.asarray(Image.open(io.BytesIO(picture.png)))


def usage_section(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    return " ".join(unescape(text.split('<section id="usage">')[1].split("</section>")[0]).split())


def enlarged(image):
    return np.kron(image, np.ones((TILE // 8, TILE // 8), np.uint8))


def test_all_codes_stand_in_order_of_use_over_a_bar_of_their_use(run):
    level = atlas_of(run, "kmeans").levels[0]
    pixels = pixels_of(code_grid(level.tiles, level.use, "", TILE))
    step, height = TILE + GAP, TILE + BAR + 2 * GAP
    assert pixels.shape == (3 * height - GAP, A_ROW * step - GAP)
    for place in (0, 1, 15, 16, 37):
        row, column = divmod(place, A_ROW)
        top, left = row * height, column * step
        shown = pixels[top : top + TILE, left : left + TILE]
        np.testing.assert_array_equal(shown, enlarged(level.tiles[place, 0]))
        bar = pixels[top + TILE + 1, left : left + TILE]
        expected = round(TILE * level.use[place] / level.use[0])
        assert (bar < 255).sum() == pytest.approx(expected, abs=1)


def test_unused_codes_are_pale_and_have_no_bar(run):
    level = atlas_of(run, "kmeans").levels[0]
    pixels = pixels_of(code_grid(level.tiles, level.use, "", TILE)).astype(int)
    step, height = TILE + GAP, TILE + BAR + 2 * GAP
    for place in (38, 39):
        row, column = divmod(place, A_ROW)
        tile = pixels[row * height : row * height + TILE, column * step : column * step + TILE]
        assert tile.min() > 170 and tile.max() == pytest.approx(
            level.tiles[place].max() + 0.7 * (255 - level.tiles[place].max()), abs=1
        )
        below = pixels[row * height + TILE : (row + 1) * height, column * step : column * step + TILE]
        assert (below == 255).all()


def test_a_code_stands_above_its_images(run):
    level = atlas_of(run, "residual").levels[1]
    picture = code_columns(level.tiles[:5], level.use[:5], level.images[:5, :2], "", TILE)
    pixels = pixels_of(picture)
    top = pixels.shape[0] - 3 * TILE - GAP - 6
    assert (picture.width, picture.height) == pixels.shape[::-1] == (5 * (TILE + GAP) - GAP, pixels.shape[0])
    for column in range(5):
        strip = pixels[:, column * (TILE + GAP) : column * (TILE + GAP) + TILE]
        assert (strip[:top] < 128).any()  # its use, in figures
        np.testing.assert_array_equal(strip[top : top + TILE], enlarged(level.tiles[column, 0]))
        for example, row in enumerate((pixels.shape[0] - 2 * TILE - GAP, pixels.shape[0] - TILE)):
            np.testing.assert_array_equal(strip[row : row + TILE], enlarged(level.images[column, example, 0]))


def test_colours_are_kept_and_large_images_reduced():
    tiles = np.zeros((3, 3, 64, 48), np.uint8)
    tiles[:, 0] = 200
    pixels = pixels_of(code_grid(tiles, np.array([0.5, 0.2, 0.1]), "", 32))
    assert pixels.shape[1:] == (3 * (24 + GAP) - GAP, 3)
    assert pixels[5, 5].tolist() == [200, 0, 0]


@pytest.mark.parametrize(
    "share, text", [(1, "100"), (0.0996, "10"), (0.0994, "9.9"), (0.00996, "1.0"), (0.0004, ".04"), (0, "0")]
)
def test_percentages_take_three_characters(share, text):
    assert percent(share) == text


def test_the_page_shows_one_level_whole_and_of_several_the_most_used(run):
    write_report(run)
    section = usage_section(run)
    assert "The codes of kmeans, one by one" in section and "The codes of residual, one by one" in section
    labels = re.findall(r"<figcaption><b>(.*?)</b>", section)
    assert labels == ["level 1", "level 2", "level 3", "all codes", "most used", "least used"]
    assert "18 of 20 codes used; white is 0.250 brighter" in section
    written = {path.name for path in (run / "figures").glob("codes-*")}
    assert "codes-1-residual-level_3.png" in written and "codes-2-kmeans-all_codes.png" in written
    assert len(written) == 6


def test_every_picture_says_what_it_shows_and_how_much_codes_are_used(run):
    atlas = atlas_of(run, "kmeans")
    everything, most, least = (shown.picture.alt for shown in atlas_view(atlas, ALLOWED).pictures)
    assert everything == "40 codes of kmeans, each decoded alone, most used first."
    use = atlas.levels[0].use
    assert "16 codes most used" in most and most.endswith(f"{', '.join(map(percent, use[:16]))}.")
    assert "8 codes least used" in least and least.endswith(f"{', '.join(map(percent, use[30:38]))}.")
    second = atlas_view(atlas_of(run, "residual"), ALLOWED).pictures[1].picture.alt
    assert "the change each makes to the mean image" in second


def test_numbers_stand_in_a_table_under_the_code_s_own_name(run):
    atlas = atlas_of(run, "residual")
    table = atlas_table(atlas)
    assert len(table.rows) == 48
    level = atlas.levels[2]
    row = table.rows[32]
    code = level.codes[0]
    assert row.label == f"level 3, code {code}"
    assert row.cells[0].text == percent(level.facts.use[code])
    assert row.cells[1].text == ", ".join(map(str, level.examples[0]))
    assert "-1" not in table.rows[47].cells[1].text
    write_report(run)
    assert f"level 3, code {code}" in usage_section(run)


@pytest.mark.parametrize(
    "n_tokens, changes, expected, absent",
    [
        (1, [None], ["Each code is decoded. Below the most and the least used"], ["mean", "level"]),
        (8, [None], ["with the other tokens at their mean", "the one of 8 tokens"], ["level", "changes"]),
        (1, [None, 0.1], ["with the other levels at their mean", "From level 2 on, tiles"], ["tokens"]),
        (4, [0.2, 0.1], ["other levels and the other tokens", "Tiles show how", "less the levels"], ["From"]),
    ],
)
def test_words_say_how_these_codes_were_decoded(n_tokens, changes, expected, absent):
    levels = tuple(LevelFacts(2, (0.5, 0.5), change) for change in changes)
    words = atlas_words(AtlasFacts(300, n_tokens, levels))
    assert all(part in words for part in expected) and not any(part in words for part in absent)
    assert words.endswith("Numbers are the percentage of the 300 test images that use a code.")


def test_an_atlas_takes_no_more_of_the_page_than_it_may(run):
    write_atlas(run, "kmeans", 1, 60, (3, 40, 40), noise=True)
    atlas = atlas_of(run, "kmeans")
    sizes = []
    for allowed, first in ((800_000, "all codes"), (400_000, "all codes"), (200_000, "most used")):
        view = atlas_view(atlas, allowed)
        sizes.append(sum(len(shown.picture.uri) for shown in view.pictures))
        assert sizes[-1] <= allowed
        assert view.pictures[0].label == first
    assert sizes[0] > sizes[1] > sizes[2] > 100_000
    assert atlas_view(atlas, 50_000) is None and atlas_view(atlas, -1) is None


def test_atlases_share_the_room_and_leave_the_page_below_three_megabytes(run, monkeypatch):
    before = write_report(run).stat().st_size
    monkeypatch.setattr("geovq.reports.html.PAGE_BYTES", before + 500_000)
    for arm in ("kmeans", "residual", "residual+tuned"):
        write_atlas(run, arm, 1, 60, (3, 64, 64), noise=True)
    assert before + 200_000 < write_report(run).stat().st_size < before + 500_000
    assert before + 500_000 < 3_000_000


def test_what_finds_no_room_is_named(run, monkeypatch):
    monkeypatch.setattr("geovq.reports.html.PAGE_BYTES", 10_000)
    write_report(run)
    section = usage_section(run)
    assert "the run folder keeps them under atlas/kmeans" in section
    assert list((run / "figures").glob("codes-*")) == []


def test_the_same_files_give_the_same_page(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_a_codebook_of_two_codes_has_no_least_used(run):
    write_atlas(run, "kmeans", 1, 3, n_unused=1)
    view = atlas_view(atlas_of(run, "kmeans"), ALLOWED)
    assert [shown.label for shown in view.pictures] == ["all codes", "most used"]


def test_without_an_atlas_nothing_is_said(finished_run):
    assert read_atlas(read_run(finished_run), "kmeans", 24) is None
    assert "one by one" not in usage_section(finished_run)


@pytest.mark.parametrize(
    "name, damage",
    [
        ("codes", lambda a: a + 40),
        ("codes", lambda a: a.astype(np.float32)),
        ("tiles", lambda a: a[1:]),
        ("tiles", lambda a: a.astype(np.float32)),
        ("featured", lambda a: a + 40),
        ("examples", lambda a: a[:, 0]),
        ("images", lambda a: a[..., :4]),
        ("images", None),
    ],
)
def test_a_damaged_atlas_is_refused_by_name(run, name, damage):
    folder = run / "atlas" / "kmeans" / "24" / "0"
    config, tensors = load_artifact(folder)
    array = tensors.pop(f"0.{name}")
    if damage is not None:
        tensors[f"0.{name}"] = damage(array)
    save_artifact(folder, config, tensors)
    with pytest.raises(CorruptArtifactError, match=rf"'0.{name}' is .* run the stage again"):
        atlas_of(run, "kmeans")


def test_a_damaged_description_is_refused(run):
    folder = run / "atlas" / "kmeans" / "24" / "0"
    config, tensors = load_artifact(folder)
    config["levels"][0]["use"] = config["levels"][0]["use"][:-1]
    save_artifact(folder, config, tensors)
    with pytest.raises(CorruptArtifactError, match="level 0 has 39 uses; expected 40"):
        atlas_of(run, "kmeans")
    save_artifact(folder, {**config, "levels": 3}, tensors)
    with pytest.raises(ConfigError, match="levels"):
        atlas_of(run, "kmeans")
