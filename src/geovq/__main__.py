"""``python -m geovq`` is ``geovq``."""

from geovq.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
