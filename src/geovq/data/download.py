"""Downloads: from the first mirror that delivers the right bytes, into a cache that holds nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from geovq.errors import DataError
from geovq.storage.atomic import storage_errors

CACHE_FOLDER = "GEOVQ_CACHE"


def download(dataset: str, file: str, sha256: str, mirrors: Sequence[str]) -> Path:
    """Path of a file in the cache, fetched from the first of ``mirrors`` (base URLs) that has it.

    The cache is the folder that GEOVQ_CACHE names, else the operating system's. A file whose SHA-256 is
    right is not fetched again; one whose hash is wrong never enters the cache. Raises ``DataError`` with
    each mirror's reason when all of them fail, ``StorageError`` if the cache cannot be written.
    """
    import pooch  # these two take 0.2 s that other sources do not need
    from requests import RequestException

    pooch.get_logger().setLevel("WARNING")  # its notices would stand above the one line of an error
    folder = Path(os.environ.get(CACHE_FOLDER) or pooch.os_cache("geovq")) / dataset
    reasons = []
    for mirror in mirrors:
        url = mirror + file
        with storage_errors(folder):
            try:
                return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=file, path=folder))
            except RequestException as error:
                status = error.response is not None and f"status {error.response.status_code}"
                reasons.append(f"{url}: {status or type(error).__name__}")
            except ValueError:
                reasons.append(f"{url}: wrong SHA-256")
    raise DataError(
        f"{file} of {dataset} cannot be downloaded ({'; '.join(reasons)}); connect to the network, or set "
        f"GEOVQ_DATA to a folder that holds {dataset}/{file}"
    )
