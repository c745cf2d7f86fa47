"""The command line: what it prints; wrong input gets one line, exit code 2 and nothing half-written."""

import gzip
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geovq.cli import STAGES as NAMED_STAGES
from geovq.cli import _reproducing, main
from geovq.pipeline.run import STAGES


def run_cli(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as exit:  # argparse leaves so
        return int(exit.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that must be refused as wrong input."""
    code = run_cli(*arguments)
    captured = capsys.readouterr()
    assert code == 2, captured.err
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    assert captured.out == ""
    return lines[0]


def idx(images: np.ndarray, magic: int = 0x803) -> bytes:
    return struct.pack(f">I{images.ndim}I", magic, *images.shape) + images.tobytes()


def test_help_lists_every_command_without_loading_torch() -> None:
    code = (
        "import sys; from geovq.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules), 'slow imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("demo", "recipes", "run", "tokenize", "sample", "evaluate", "report"):
        assert f"    {command} " in done.stdout


def test_stages_named_in_help_are_those_of_the_pipeline() -> None:
    assert tuple(NAMED_STAGES.split()) == STAGES


def test_recipes_says_source_time_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("recipes") == 0
    out = capsys.readouterr().out
    for word in ("digits", "mnist-first", "Source:", "Takes:", "Expect:"):
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "mnist-frist"], "did you mean 'mnist-first'"),
        (["run", "digits", "--set", "bitz=3"], "did you mean 'bits'"),
        (["run", "digits", "--set", "bits=many"], "expected a number"),
        (["run", "digits", "--set", "bits"], "expected key=value"),
        (["run", "digits", "--set", "models.vae.train.epoch=3"], "did you mean 'models.vae.train.epochs'"),
        (["run", "digits", "--set", "models.vae.train.epochs=0"], "expected a number above 0"),
        (["run", "digits", "--set", "models.vae.spec.params.latents=3"], "did you mean 'latent_dim'"),
        (["run", "digits", "--set", "models.vae.spec.params.beta=high"], "expected a number"),
        (["run", "digits", "--set", "models.vae.spec.params.widths=[8,1.5]"], "expected a whole number"),
        (["run", "digits", "--set", "models.vqvae.spec.params.layer.params.n_codes=x"], "expected a whole"),
        (["run", "digits", "--set", "arms.residual.quantizer.params.beam=wide"], "expected a whole number"),
        (["run", "digits", "--set", "prior.spec.params.width=[1]"], "expected a whole number"),
        (["run", "digits", "--set", "arms.kmeans.name=../../elsewhere"], "cannot be a folder's"),
        (["run", "digits", "--set", "recipe=../elsewhere"], "cannot be a folder's"),
        (["run", "digits", "--set", "arms=[]"], "at least one arm"),
        (["run", "digits", "--set", "models.vae.spec.params.beta=-1"], "expected at least 0"),
        (["run", "digits", "--set", "arms.kmeans.name=ema+tuned"], "two arms are called"),
        (["run", "digits", "--set", "arms.wasserstein.quantizer.params.metric=wassertein"], "metric"),
        (["run", "digits", "--set", "arms.residual.quantizer.params.beam=0"], "beam"),
        (["run", "digits", "--set", "arms.kmeans.quantizer.params.n_codes=0"], "at least one code"),
        (["run", "digits", "--set", "arms.residual.quantizer.params.n_levels=0"], "at least one code"),
        (["run", "digits", "--set", "prior.spec.params.n_heads=7"], "n_heads"),
        (["run", "digits", "--set", "prior.spec.params.n_classes=10"], "without labels"),
        (["run", "digits", "--set", "models.vae.spec.kind=vea"], "did you mean 'vae'"),
        (["run", "digits", "--set", "arms.kmeans.quantizer.kind=kmean"], "did you mean 'kmeans'"),
        (["run", "digits", "--set", "arms.kmeans.quantizer.params.codes=3"], "did you mean 'n_codes'"),
        (["run", "digits", "--set", "arms.kmeans.tokens=[3,3]"], "cannot be cut"),
        (["run", "digits", "--set", "arms.kmeans.model=cnn"], "unknown model"),
        (["run", "digits", "--set", "bits=32"], "bits an image"),
        (["run", "digits", "--set", "seeds=[]"], "expected different whole numbers"),
        (["run", "digits", "--set", "prior.spec.params.depth=2"], "parameter of prior"),
        (["run", "digits", "--stop-after", "tokenize"], "did you mean 'tokenizers'"),
        (["run", "digits", "--data", "minst"], "did you mean 'mnist'"),
        (["run", "digits", "--data", "npz:x"], "npz"),
        (["run", "digits", "--reuse", "nowhere"], "no such folder"),
        (["run", "nowhere.json"], "no such file"),
        (["run", "digits", "--seed", "one"], "invalid int value"),
        (["run", "lowrank-stiefel", "--set", "m=70"], "m is 70 and D is 64"),
        (["run", "lowrank-stiefel", "--set", "K=20001"], "K is 20001 and n_train is 20000"),
        (["run", "lowrank-stiefel", "--set", "steps=0"], "steps is 0; expected at least 1"),
        (["run", "lowrank-stiefel", "--set", "step=3"], "did you mean 'steps'"),
        (["run", "lowrank-stiefel", "--set", 'methods=["ste"]'], "unknown method 'ste'"),
        (["run", "lowrank-stiefel", "--data", "digits"], "makes its own data"),
        (["run", "lowrank-stiefel", "--stop-after", "train"], "no stages to stop after"),
        (["fly"], "invalid choice"),
        (["tokenize", "nowhere", "digits", "--out", "codes"], "no such folder"),
        (["evaluate", "nowhere", "digits"], "no such folder"),
        (["sample", "nowhere", "--out", "x.png"], "no such folder"),
        (["report", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_refused_before_anything_is_written(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_more_codes_than_points_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "few.npy", images)
    message = refused(
        capsys, "run", "digits", "--data", f"npy:{tmp_path / 'few.npy'}", "--out", str(tmp_path / "out")
    )
    assert "64 codes for" in message and "lower n_codes" in message
    assert not (tmp_path / "out").exists()


def test_images_that_cannot_be_used_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8), dtype=np.uint8)
    with_nan = rng.random((20, 8, 8))
    with_nan[7, 2, 2] = np.nan
    arrays = {"nan.npy": with_nan, "flat.npy": images.reshape(20, 64), "text.npy": np.array(["a"] * 20)}
    for name, array in arrays.items():
        np.save(tmp_path / name, array)
    (tmp_path / "magic-idx").write_bytes(idx(images, magic=0x1234))
    (tmp_path / "short-idx").write_bytes(idx(images)[:-1])
    (tmp_path / "short-idx.gz").write_bytes(gzip.compress(idx(images))[:-9])
    (tmp_path / "empty").mkdir()
    for source, expected in {
        "npy:nan.npy": "7",
        "npy:flat.npy": "shape",
        "npy:text.npy": "text.npy",
        "npy:missing.npy": "missing.npy",
        "idx:magic-idx": "magic",
        "idx:short-idx": "short-idx",
        "idx:short-idx.gz": "short-idx.gz",
        "folder:empty": "empty",
    }.items():
        kind, _, name = source.partition(":")
        out = tmp_path / "out"
        message = refused(capsys, "run", "digits", "--data", f"{kind}:{tmp_path / name}", "--out", str(out))
        assert expected in message, message
        assert not out.exists()


def test_a_file_that_is_not_the_canonical_one_may_not_bear_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    images = np.zeros((100, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        labels = np.zeros(100, dtype=np.uint8)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels, magic=0x801)))
    monkeypatch.setenv("GEOVQ_DATA", str(tmp_path / "data"))
    message = refused(capsys, "run", "mnist-first", "--out", str(tmp_path / "out"))
    assert "SHA-256" in message or "hash" in message
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert "thesis.tex" in refused(capsys, "run", "digits", "--out", str(tmp_path))
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(capsys, "run", "digits", "--out", str(tmp_path / "file"))
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_full_disk_gets_one_line_and_leaves_no_half_file(tmp_path: Path) -> None:
    """Files may grow to 20 kB only: the configuration fits, the first weights do not."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "geovq", "run", "digits", "--out", str(out)]
    command += ["--set", "models.vae.train.epochs=1", "--stop-after", "train"]
    limit = 20_000
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert f"{out}/checkpoints/vae/0/model.safetensors: the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.rglob("*.safetensors"))
    assert [path.name for path in out.rglob(".*")] == [".lock"]


def test_debug_shows_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("run", "mnist-frist", "--debug", "--out", str(tmp_path / "out")) == 2
    assert "Traceback" in capsys.readouterr().err


def test_tokenize_sample_evaluate_and_report(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from geovq.tokenizer.codes import load_codes

    tokenizer = small_run / "tokenizers/residual/24/0"
    assert run_cli("tokenize", str(tokenizer), "digits", "--out", str(tmp_path / "codes"), "--latents") == 0
    stored = load_codes(tmp_path / "codes")
    in_run = load_codes(small_run / "codes/residual/24/0")
    for split, codes in in_run.splits.items():
        np.testing.assert_array_equal(stored.splits[split], codes)
    assert "test: 300 images, 4 codes each" in capsys.readouterr().out
    assert "not an empty folder" in refused(
        capsys, "tokenize", str(tokenizer), "digits", "--out", str(tmp_path / "codes")
    )

    assert run_cli("evaluate", str(tokenizer), "digits") == 0
    printed = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    recorded = json.loads((small_run / "metrics.json").read_text())["records"]
    (record,) = [r for r in recorded if (r["arm"], r["seed"], r["split"]) == ("residual", 0, "test")]
    for name in ("mse", "ssim", "bits_entropy", "utilization"):
        assert float(printed[name]) == pytest.approx(record["values"][name], rel=1e-4)

    (prior,) = small_run.glob("priors/residual*/24/0")
    grid = tmp_path / "samples.png"
    options = ["-n", "25", "--temperature", "0.9", "--top-p", "0.95", "--seed", "3", "--out", str(grid)]
    assert run_cli("sample", str(prior), *options) == 0
    first = grid.read_bytes()
    image = Image.open(grid)
    assert min(image.size) > 5 * 8
    assert np.asarray(image).max() > 0
    assert run_cli("sample", str(prior), *options) == 0
    assert grid.read_bytes() == first
    for wrong, expected in (
        (["-n", "0"], "at least 1"),
        (["-n", "1000000000"], "at most 10000"),
        (["--temperature", "0"], "temperature"),
        (["--top-p", "0"], "top_p"),
    ):
        capsys.readouterr()
        assert expected in refused(capsys, "sample", str(prior), "--out", str(tmp_path / "no.png"), *wrong)
    assert ".png" in refused(capsys, "sample", str(prior), "--out", str(tmp_path / "no.gif"))
    assert not (tmp_path / "no.png").exists()

    before = (small_run / "report.html").read_bytes()
    assert run_cli("report", str(small_run)) == 0
    assert (small_run / "report.html").read_bytes() == before


def test_a_prior_refuses_another_tokenizer(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (prior,) = small_run.glob("priors/residual*/24/0")
    arm = prior.relative_to(small_run / "priors").parts[0]
    copy = tmp_path / "run"
    shutil.copytree(prior, copy / "priors" / arm / "24" / "0")
    shutil.copytree(small_run / "tokenizers/kmeans/24/0", copy / "tokenizers" / arm / "24" / "0")
    message = refused(
        capsys, "sample", str(copy / "priors" / arm / "24" / "0"), "--out", str(tmp_path / "samples.png")
    )
    assert "not the one this prior was trained on" in message


def test_a_prior_without_its_tokenizer_says_so(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (prior,) = small_run.glob("priors/residual*/24/0")
    shutil.copytree(prior, tmp_path / "lone")
    message = refused(capsys, "sample", str(tmp_path / "lone"), "--out", str(tmp_path / "samples.png"))
    assert "its tokenizer is missing" in message and "move both together" in message


@pytest.mark.parametrize("name", ["cost.json", "environment.json"])
def test_a_damaged_record_of_a_run_is_named(
    name: str, small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    (run / name).write_text("{}")
    assert name in refused(capsys, "run", str(run / "config.json"), "--out", str(run))


def test_the_command_kept_is_the_one_that_reproduces() -> None:
    given = ["run", "digits", "--stop-after", "train", "--reuse=x", "--set", "a=b c", "--debug", "--out", "o"]
    assert _reproducing(given) == "geovq run digits --set 'a=b c' --out o"


def test_images_of_another_shape_are_refused(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "big.npy", np.zeros((20, 12, 12), dtype=np.uint8))
    message = refused(
        capsys, "evaluate", str(small_run / "tokenizers/kmeans/24/0"), f"npy:{tmp_path / 'big.npy'}"
    )
    assert "(1, 12, 12)" in message and "(1, 8, 8)" in message
