"""A diagnosis on the page: the sentence, the numbers, a figure with words; damaged ones are refused."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from geovq.errors import CorruptArtifactError, InputError
from geovq.evaluation.diagnosis import Diagnosis, PathsAgainstLines
from geovq.reports import write_report
from geovq.reports.diagnosis import diagnosis_figure, diagnosis_table, read_diagnosis
from geovq.reports.run_files import read_run
from geovq.storage.artifact import load_artifact, save_artifact

FOUND = Diagnosis(
    latent_shape=(4,),
    tokens=(1, 2),
    bits=24.0,
    n_images=256,
    kl_bits=(3.0, 6.0, 0.25, 4.0),
    eigenvalues=(20.0, 5.0, 3.0, 0.1),
    metric_change=0.82,
    shape_change=0.61,
    precision_across=0.98,
    precision_within=0.74,
    mean_metric_error=0.68,
    precision_error=0.77,
    apart_error=1.6,
    paths=PathsAgainstLines(4000, 2, 15, 0.997, 0.996, 28, 29, 0.31, 0.0006, 0),
)


def store(folder, found=FOUND, **changes):
    save_artifact(folder / "diagnoses" / "vae" / "0", {"kind": "diagnosis", **found.to_json(), **changes}, {})


@pytest.fixture
def copy(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "copy")


def section(folder):
    """The page's section on geometry, its white space as single blanks."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    return " ".join(text.split('<section id="geometry">')[1].split("</section>")[0].split())


def test_a_stored_diagnosis_comes_back(copy):
    assert read_diagnosis(read_run(copy), "vae") is None
    store(copy, later_key="of another version")
    assert read_diagnosis(read_run(copy), "vae") == FOUND


def test_the_section_begins_with_the_sentence(copy):
    store(copy)
    write_report(copy)
    text = section(copy).replace("&#39;", "'")
    assert text.split("<h3>")[1].startswith(
        f"What the latents of vae ask for</h3> <p>{FOUND.recommendation}</p>"
    )
    assert "Quantize in the mean pull-back metric (eigenvalues of E[J'J] spread 200:1" in text
    assert "count as not active" in text
    assert (copy / "figures" / "diagnosis-1-vae.png").is_file()


def test_without_a_diagnosis_the_section_is_as_before(copy):
    write_report(copy)
    assert "ask for" not in section(copy)


def test_the_table_holds_the_numbers_of_the_sentence():
    cells = {row.label: [cell.text for cell in row.cells] for row in diagnosis_table(FOUND).rows}
    assert cells["KL"] == ["13.2", ""]
    assert cells["active dimensions"] == ["3", ""]
    assert cells["eigenvalues of E[J'J], largest / smallest"] == ["200", ""]
    assert cells["eigenvalues of E[J'J], largest / median"] == ["5", ""]
    assert cells["expected error in the metric E[J'J]"] == ["0.680", ""]
    assert cells["graph paths and straight lines"] == ["0.997", "0.996"]
    assert cells["largest in-degree"] == ["28", "29"]
    assert len(cells) == len(diagnosis_table(FOUND).rows) == 17


def test_what_was_not_measured_has_no_row():
    points = dataclasses.replace(
        FOUND, kl_bits=None, precision_across=None, precision_within=None, precision_error=None, paths=None
    )
    labels = [row.label for row in diagnosis_table(points).rows]
    assert len(labels) == 7
    assert not any(word in label for label in labels for word in ("KL", "active", "precision", "graph"))


def test_the_figure_shows_kl_beside_eigenvalues_and_says_so():
    picture = diagnosis_figure(FOUND, "vae")
    assert picture.alt == (
        "Latents of vae. KL of 4 dimensions from 6 down to 0.25 bits. Eigenvalues of the mean pull-back "
        "metric from 20 down to 0.1."
    )
    points = diagnosis_figure(dataclasses.replace(FOUND, kl_bits=None), "vae")
    assert "KL" not in points.alt

    def blue_on_the_left(shown):
        pixels = np.asarray(Image.open(io.BytesIO(shown.png)).convert("RGB")).astype(int)
        left = pixels[:, : pixels.shape[1] // 2]
        return (np.abs(left - [0, 0x72, 0xB2]).max(2) < 12).mean()

    assert blue_on_the_left(picture) > 5 * blue_on_the_left(points)


@pytest.mark.parametrize("eigenvalues", [(1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.0), (2.0, 1.0, 0.0, 0.0)])
def test_equal_and_vanishing_eigenvalues_are_drawn(eigenvalues):
    found = dataclasses.replace(FOUND, eigenvalues=eigenvalues)
    assert diagnosis_figure(found, "vae").png
    assert diagnosis_table(found).rows


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kl_bits": [1.0]}, CorruptArtifactError, "kl_bits has 1 numbers for latents of shape"),
        ({"eigenvalues": []}, CorruptArtifactError, "eigenvalues has 0 numbers"),
        ({"latent_shape": []}, CorruptArtifactError, r"latents of shape \(\); expected one a dimension"),
        ({"shape_change": "much"}, InputError, 'shape_change\' is "much"; expected a number'),
        ({"paths": {"n_points": 3}}, InputError, "paths.dim' is missing"),
    ],
)
def test_a_damaged_diagnosis_is_refused(copy, changes, error, message):
    store(copy, **changes)
    with pytest.raises(error, match=message):
        write_report(copy)


def test_the_page_is_the_same_for_the_same_files(copy):
    store(copy)
    assert write_report(copy).read_bytes() == write_report(copy).read_bytes()
    assert load_artifact(copy / "diagnoses/vae/0")[1] == {}
