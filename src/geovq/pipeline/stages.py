"""Stages: folders made once for given inputs, and found again by the fingerprint of those inputs."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from geovq import __version__
from geovq.errors import CorruptArtifactError
from geovq.storage.artifact import fingerprint, read_json, seal, verify
from geovq.storage.atomic import new_folder, write_json
from geovq.storage.run_folder import stages_in

Make = Callable[[Path, Path], None]
"""Called as ``make(folder, checkpoints)``: fills the empty ``folder``; what must survive a kill of this stage
goes to ``checkpoints``."""

Tell = Callable[[str], None]
"""Called with one line when a stage starts, and when what it made needs a word."""


REVISION = 3
"""Part of every stage's fingerprint: raised whenever equal inputs begin to give something else, so that what
older code made is not taken for it."""


class Stages:
    """The stages of one run folder.

    Parameters
    ----------
    root : the run folder.
    reuse : folders of earlier runs, whose stages of equal fingerprint are copied instead of made again.
    tell : hears about every stage that is really made.
    """

    def __init__(self, root: Path, reuse: list[Path], tell: Tell) -> None:
        self.root, self.tell = root, tell
        self.earlier: dict[str, Path] = {}
        for folder in reuse:
            self.earlier |= stages_in(folder)
        self._cost: dict[str, dict[str, Any]] = self._read_cost()

    def run(
        self,
        stage: str,
        path: str,
        inputs: Mapping[str, Any],
        make: Make,
        *,
        arm: str,
        seed: int,
    ) -> Path:
        """The folder ``path`` of this run, made by ``make`` unless it is already there.

        ``inputs`` are JSON values that determine the content completely, the version of GeoVQ aside.
        """
        key = fingerprint({"geovq": __version__, "revision": REVISION, "stage": stage, "inputs": inputs})
        folder = self.root / path
        if _is_whole(folder, key):
            return folder
        began = time.monotonic()
        earlier = self.earlier.get(key)
        checkpoints = self.root / "checkpoints" / "in-progress" / key[:16]
        reused = earlier is not None and _is_whole(earlier, key)
        with new_folder(folder) as scratch:
            if reused and earlier is not None:
                shutil.copytree(earlier, scratch, dirs_exist_ok=True)
            else:
                self.tell(f"{stage}: {arm}, seed {seed}")
                make(scratch, checkpoints)
                seal(scratch, key)
        shutil.rmtree(checkpoints, ignore_errors=True)
        self._cost[path] = {
            "stage": stage,
            "arm": arm,
            "seed": seed,
            "seconds": round(time.monotonic() - began, 3),
            "peak_memory_mb": _peak_memory_mb(),
            "reused": reused,
        }
        self._write_cost()
        return folder

    def _read_cost(self) -> dict[str, dict[str, Any]]:
        path = self.root / "cost.json"
        if not path.exists():
            return {}
        try:
            return {entry["path"]: entry for entry in read_json(path)["stages"]}
        except (KeyError, TypeError):
            raise CorruptArtifactError(
                f"{path}: is not a table of costs; it was altered; delete it to go on without its times"
            ) from None

    def _write_cost(self) -> None:
        stages = [{**entry, "path": path} for path, entry in self._cost.items()]
        write_json(self.root / "cost.json", {"schema": 1, "machine": machine(), "stages": stages})


def machine() -> dict[str, Any]:
    """Processor, cores and memory of this machine, as far as the system tells."""
    from geovq.seeding import available_cores

    cpu, memory_gb = "unknown", 0.0
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].split(":", 1)[1].strip() if models else cpu
    if meminfo.exists():
        memory_gb = round(int(meminfo.read_text().split()[1]) / 1e6, 1)
    return {"cpu": cpu, "cores": available_cores(), "memory_gb": memory_gb}


def _is_whole(folder: Path, key: str) -> bool:
    try:
        return bool(verify(folder)["stage"] == key)
    except CorruptArtifactError:
        return False


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
