"""Run as a script: trains in child processes and kills them at random moments until one gets to the end.

PyTorch is imported once; every life is a fork. Prints, as JSON, the digest of an undisturbed training and for
every disturbed one its digest, its number of kills, and the half-written files that the kills left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import torch
from small_trainings import digest_of, train_small

from geovq.training import loop

MOST_KILLS = 8


def live(kind: str, result: Path, checkpoints: Path | None) -> int:
    child = os.fork()
    if child == 0:
        result.write_text(digest_of(*train_small(kind, checkpoints)))
        os._exit(0)
    return child


def is_alive(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def until_the_end(
    kind: str, folder: Path, longest_life: float, generator: np.random.Generator
) -> dict[str, object]:
    kills = leftovers = 0
    while True:
        child = live(kind, folder / "result", folder / "checkpoints")
        if kills == 0:
            # The first life always ends in the middle of a training: after its first checkpoint.
            while is_alive(child) and not any((folder / "checkpoints").glob("step-*")):
                time.sleep(0.001)
            os.kill(child, signal.SIGKILL)
        elif kills < MOST_KILLS:
            time.sleep(generator.uniform(0, longest_life))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            remaining = len(list((folder / "checkpoints").glob(".*")))
            digest = (folder / "result").read_text()
            return {"digest": digest, "kills": kills, "leftovers": leftovers, "remaining": remaining}
        kills += 1
        leftovers += len([path for path in (folder / "checkpoints").rglob("*.tmp") if path.is_dir()])


def main(kind: str, root: Path, n_trainings: int) -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    loop.CHECKPOINT_SECONDS = -1
    began = time.monotonic()
    os.waitpid(live(kind, root / "undisturbed", None), 0)
    duration = time.monotonic() - began
    disturbed = []
    for number in range(n_trainings):
        folder = root / str(number)
        folder.mkdir()
        disturbed.append(until_the_end(kind, folder, duration, np.random.default_rng(number)))
    print(json.dumps({"undisturbed": (root / "undisturbed").read_text(), "disturbed": disturbed}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
