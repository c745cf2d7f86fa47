"""docs/concepts.md: its code runs, its tables and figures are those of the measurements."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from geovq.errors import InputError
from geovq.models.vae import VAE
from geovq.seeding import numpy_generator, seeded_weights

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "concepts.md"


@pytest.fixture
def draw(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import draw_concepts

    return draw_concepts


def test_the_page_is_what_the_measurements_say(draw):
    from concepts import tables

    page = PAGE.read_text(encoding="utf-8")
    assert tables.replaced(page, draw.tabulated(draw.measured(ROOT))) == page


def test_a_place_that_the_page_lacks_is_refused(draw):
    from concepts import tables

    with pytest.raises(InputError, match="0 places for 'roll'"):
        tables.replaced("<!-- begin flat -->\n<!-- end flat -->", {"roll": ""})


def test_only_differences_beyond_doubt_are_bold(draw):
    from concepts import tables

    from geovq.evaluation.statistics import paired_difference

    assert tables.percent(paired_difference([0.9, 0.91, 0.92], [1.0, 1.0, 1.0])) == "**−9 %**"
    assert tables.percent(paired_difference([0.5, 1.5, 1.3], [1.0, 1.0, 1.0])) == "+10 %"


def test_every_figure_can_be_drawn_and_is_in_the_page_with_words_for_those_who_do_not_see_it(draw):
    figures = draw.drawn(draw.measured(ROOT))
    shown = re.findall(r"!\[([^\]]+)\]\(images/concepts-([a-z-]+)\.png\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(name for _, name in shown) == sorted(figures)
    assert all(len(words) > 80 for words, _ in shown)
    for name, figure in figures.items():
        header = (ROOT / "docs" / "images" / f"concepts-{name}.png").read_bytes()[:24]
        width, height = struct.unpack(">II", header[16:24])
        inches = figure.get_size_inches()
        assert width / height == pytest.approx(inches[0] / inches[1], rel=0.01)


def test_measurements_say_their_seeds_machine_versions_and_command(draw):
    for content in draw.measured(ROOT).values():
        assert content["command"].startswith("python scripts/measure_geodesics.py ")
        assert content["machine"]["cpu"] and content["versions"]["scipy"] and content["about"]
        assert content["n_neighbors"] == 15
        if "seeds" in content:
            assert {row["seed"] for row in content["rows"]} == set(range(content["seeds"]))


def test_code_on_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with seeded_weights(0, "page"):
        model = VAE((1, 8, 8), latent_dim=8, widths=(4, 8)).eval()
    generator = numpy_generator(0, "page")
    names: dict[str, object] = {"decoder": model.decoder}
    for suffix, count in (("", 400), ("_new", 50)):
        names[f"Z{suffix}"] = generator.standard_normal((count, 8)).astype(np.float32)
        names[f"sigma{suffix}"] = generator.uniform(0.1, 1, (count, 8)).astype(np.float32)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    codes = names["codes"]
    assert isinstance(codes, np.ndarray) and codes.shape == (50,) and codes.dtype == np.int64
