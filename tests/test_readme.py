"""What the README tells a newcomer to type, typed."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geovq.cli import _parser, main
from geovq.config import LaboratoryConfig, with_overrides
from geovq.data import load
from geovq.pipeline.checks import check_run
from geovq.pipeline.laboratory import check_laboratory
from geovq.recipes import recipe

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    parsed = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in parsed if words and words[0] == "geovq"]


@pytest.fixture
def workplace(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished demo and some photos, as the README assumes."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(small_run)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(120):
        pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", blocks("python"))
def test_python_examples_run(block: str, workplace: Path) -> None:
    names: dict[str, object] = {}
    exec(compile(block, str(README), "exec"), names)
    codes = names["codes"]
    assert isinstance(codes, np.ndarray) and codes.dtype == np.int64


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_do_what_they_say(words: list[str], workplace: Path) -> None:
    """Short commands run; a run of minutes is checked as far as its first write, with its real data."""
    if words[0] in ("run", "demo"):
        options = _parser().parse_args(words)
        if words[0] == "demo":
            assert options.out == Path("runs/demo")
            return
        changes = [*options.set, *([f"data.source={options.data}"] if options.data else [])]
        config = with_overrides(recipe(options.recipe), changes)
        if isinstance(config, LaboratoryConfig):
            check_laboratory(config)
            return
        # The recipes' own data has its own tests.
        others = {
            "mnist": ["data.source=digits"],
            "cifar10": ["data.source=folder:photos", "data.image_size=32"],
        }
        config = with_overrides(config, others.get(config.data.source, []))
        check_run(config, load(config.data))
        return
    assert main(words) == 0


def test_every_command_is_in_the_readme() -> None:
    assert {words[0] for words in commands()} == {
        "demo", "recipes", "run", "tokenize", "sample", "evaluate", "report",
    }  # fmt: skip
