"""A collapsed codebook on the page: one line a model and seed beside its use, none in a healthy run."""

import shutil

import pytest

from geovq.errors import CorruptArtifactError
from geovq.reports import write_report
from geovq.reports.collapse import collapse_words
from geovq.reports.run_files import read_run
from geovq.storage.artifact import save_artifact


@pytest.fixture
def copy(finished_run, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "copy")
    for seed in (0, 1):
        store(folder, seed)
    return folder


def store(folder, seed, **content):
    save_artifact(folder / "checkpoints" / "vqvae" / str(seed), content, {})


def usage_section(folder):
    """The page's section on the use of codebooks, its white space as single blanks."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    return " ".join(text.split('<section id="usage">')[1].split("</section>")[0].split())


def test_the_page_says_it_beside_the_use_of_the_codebook(copy):
    store(copy, 1, collapse={"sentence": "the codebook collapsed: 3 < 5; try start"})
    assert collapse_words(read_run(copy)) == ["vqvae, seed 1: the codebook collapsed: 3 < 5; try start."]
    write_report(copy)
    expected = '<p class="caution">vqvae, seed 1: the codebook collapsed: 3 &lt; 5; try start.</p>'
    assert expected in usage_section(copy)


def test_the_page_of_a_healthy_run_does_not_speak_of_it(copy):
    assert collapse_words(read_run(copy)) == []
    write_report(copy)
    assert "collapse" not in usage_section(copy)


@pytest.mark.parametrize("altered", ["yes", {}, {"sentence": 3}])
def test_an_altered_diagnosis_is_refused(copy, altered):
    store(copy, 0, collapse=altered)
    with pytest.raises(CorruptArtifactError, match="holds no sentence"):
        collapse_words(read_run(copy))
