"""The ``geovq`` command: parses, calls, prints.

PyTorch is imported only by commands that need it, so that ``--help`` and wrong input answer at once.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from geovq import __version__
from geovq.errors import GeovqError, InputError

if TYPE_CHECKING:
    from geovq.config import AnyConfig

LARGEST_GRID = 10_000
STAGES = "train latents tokenizers evaluate priors report"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 failed while running, 2 the input is wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        options.command(options, _reproducing(given))
    except GeovqError as error:
        return _fail(error, error.exit_code, options.debug)
    except KeyboardInterrupt:
        print("interrupted; given again, a run goes on where it stopped", file=sys.stderr)
        return 130
    except Exception as error:  # one line for the user; --debug shows the rest
        return _fail(error, 1, options.debug)
    return 0


def _reproducing(given: list[str]) -> str:
    """The command line without what only steers this call of it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--stop-after", "--reuse"):
        parser.add_argument(flag, action="append")
    parser.add_argument("--debug", action="store_true")
    return "geovq " + shlex.join(parser.parse_known_args(given)[1])


def _fail(error: Exception, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, GeovqError):
        text = f"{type(error).__name__}: {text} (--debug shows where)"
    print(f"error: {text}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="geovq", description="Discrete codes from images, compared at the same number of bits."
    )
    parser.add_argument("--version", action="version", version=f"geovq {__version__}")
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: object, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about, parents=[common])
        sub.set_defaults(command=function)
        return sub

    demo = command("demo", _demo, "the whole comparison on bundled handwritten digits, no download")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="run folder (default: runs/demo)")

    command("recipes", _recipes, "what can be run, with source, time and figures to expect")

    run = command("run", _run, "carry out a recipe or a config.json, or go on with it")
    run.add_argument("recipe", metavar="RECIPE|config.json")
    run.add_argument(
        "--data",
        metavar="NAME|KIND:PATH",
        help="digits, mnist, fashion-mnist, cifar10, idx:PATH, cifar-bin:PATH, npy:PATH, folder:PATH",
    )
    run.add_argument("--out", type=Path, help="run folder (default: runs/RECIPE)")
    run.add_argument("--seed", type=int, help="run this one seed")
    run.add_argument(
        "--set", action="append", default=[], metavar="key=value", help="change the configuration"
    )
    run.add_argument("--stop-after", default="report", metavar="STAGE", help=f"one of: {STAGES}")
    run.add_argument(
        "--reuse",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="copy stages of equal inputs from an earlier run",
    )

    tokenize = command("tokenize", _tokenize, "encode images with a stored tokenizer")
    tokenize.add_argument("tokenizer", type=Path, metavar="TOKENIZER")
    tokenize.add_argument("data", metavar="DATA")
    tokenize.add_argument("--out", type=Path, required=True)
    tokenize.add_argument("--latents", action="store_true", help="store posterior means and sigmas too")

    sample = command("sample", _sample, "draw new images from a stored prior")
    sample.add_argument("prior", type=Path, metavar="PRIOR")
    sample.add_argument("-n", type=int, default=25, help="how many images (default: 25)")
    sample.add_argument("--temperature", type=float, default=1.0)
    sample.add_argument("--top-k", type=int, default=0, help="0: all codes")
    sample.add_argument("--top-p", type=float, default=1.0)
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", type=Path, required=True, metavar="samples.png")

    evaluate = command("evaluate", _evaluate, "measure a stored tokenizer on the test images of a data set")
    evaluate.add_argument("tokenizer", type=Path, metavar="TOKENIZER")
    evaluate.add_argument("data", metavar="DATA")

    report = command("report", _report, "write the report of a run folder again")
    report.add_argument("folder", type=Path, metavar="DIR")
    return parser


def _demo(options: argparse.Namespace, command: str) -> None:
    from geovq.recipes import recipe

    _carry_out(recipe("digits"), options.out, command)


def _recipes(options: argparse.Namespace, command: str) -> None:
    from geovq.recipes import RECIPES, describe

    for name in RECIPES:
        print(name)
        print("\n".join(f"    {line}" for line in describe(name).splitlines()), end="\n\n")


def _run(options: argparse.Namespace, command: str) -> None:
    from geovq.config import config_from_json, with_data, with_overrides
    from geovq.recipes import recipe
    from geovq.storage.artifact import read_json

    if options.recipe.endswith(".json"):
        config = config_from_json(read_json(Path(options.recipe)))
    else:
        config = recipe(options.recipe)
    config = with_overrides(config, options.set)
    if options.data is not None:
        config = with_data(config, options.data)
    if options.seed is not None:
        config = replace(config, seeds=(options.seed,))
    out = options.out or Path("runs") / config.recipe
    _carry_out(config, out, command, options.reuse, options.stop_after)


def _carry_out(
    config: AnyConfig, out: Path, command: str, reuse: list[Path] | None = None, stop_after: str = "report"
) -> None:
    from geovq.console import Console
    from geovq.pipeline.carry_out import carry_out
    from geovq.reports import summary

    with Console() as console:
        carry_out(
            config,
            out,
            reuse=reuse,
            stop_after=stop_after,
            command=command,
            tell=console.tell,
            progress=console.progress,
        )
    if stop_after == "report":
        print(summary(out), end="\n\n")
    print(out / "report.html" if stop_after == "report" else out)


def _tokenize(options: argparse.Namespace, command: str) -> None:
    from geovq.config import DataConfig
    from geovq.pipeline.tools import tokenize

    stored = tokenize(options.tokenizer, DataConfig(options.data), options.out, latents=options.latents)
    for split, codes in stored.splits.items():
        print(f"{split}: {len(codes)} images, {codes.shape[1]} codes each")


def _sample(options: argparse.Namespace, command: str) -> None:
    from geovq.pipeline.tools import sample

    if not 1 <= options.n <= LARGEST_GRID:
        raise InputError(f"-n is {options.n}; expected at least 1 and at most {LARGEST_GRID} images")
    sample(
        options.prior,
        options.n,
        options.out,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    )
    print(options.out)


def _evaluate(options: argparse.Namespace, command: str) -> None:
    from geovq.config import DataConfig
    from geovq.evaluation.records import METRICS
    from geovq.pipeline.tools import evaluate

    for name, value in evaluate(options.tokenizer, DataConfig(options.data)).items():
        print(f"{name:20} {value:12.6g} {METRICS[name]['unit']}")


def _report(options: argparse.Namespace, command: str) -> None:
    from geovq.reports import write_report

    print(write_report(options.folder))
