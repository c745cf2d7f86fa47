"""What a person at a terminal sees while a run is under way."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Console:
    """Lines on stderr for stages; below them, in a terminal only, a bar with rate and time left."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.bar = Progress(
            TextColumn("  {task.fields[message]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=RichConsole(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self.task: TaskID | None = None

    def __enter__(self) -> Console:
        self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def tell(self, line: str) -> None:
        """Say that a stage starts."""
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        text = f"[{time.monotonic() - self.began:6.1f} s] {line}"
        if self.bar.disable:
            print(text, file=sys.stderr, flush=True)
        else:
            self.bar.console.print(text, highlight=False, markup=False)

    def progress(self, done: int, total: int, message: str) -> None:
        """Move the bar of the stage under way."""
        if self.bar.disable:
            return
        if self.task is None:
            self.task = self.bar.add_task("", total=total, message=message, rate="")
        speed = self.bar.tasks[-1].speed
        self.bar.update(self.task, completed=done, message=message, rate=f"{speed:.0f}/s" if speed else "")
