"""What the Hub lists about a repository's files, within a limit of time, and downloads compared with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ghn_init.errors import HubError
from ghn_init.hub.messages import transport_error
from ghn_init.hub.patience import patiently

_CHUNK = 1 << 22


class Listing(NamedTuple):
    """A commit and the hashes of its files: SHA-256 of large ones, git's SHA-1 of the others."""

    commit: str
    sha256: dict[str, str]
    git_sha1: dict[str, str]


def listing(
    repo_id: str, revision: str | None, token: str | bool | None
) -> tuple[Listing | None, BaseException | None]:
    """The listing of a revision, or None and why the Hub gave no answer at all.

    The client's own look-up of a revision waits without limit for a server that takes the request and never
    answers; this one waits ``HF_HUB_ETAG_TIMEOUT`` seconds (10 by default). None twice where the Hub answered
    with an error, which the download meets again and explains.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(token=token, library_name="ghn_init")
    try:
        info = patiently(
            lambda: api.model_info(
                repo_id, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
            )
        )
    except HfHubHTTPError:
        return None, None
    except (OfflineModeIsEnabled, transport_error(), OSError) as error:
        return None, error
    files: Sequence[Any] = info.siblings or ()
    large = {file.rfilename: file.lfs.sha256 for file in files if file.lfs is not None}
    small = {file.rfilename: file.blob_id for file in files if file.lfs is None and file.blob_id}
    return Listing(str(info.sha), large, small), None


def check_downloads(root: Path, names: Sequence[str], listed: Listing, *, since: float, where: str) -> None:
    """Compare files that were downloaded after ``since`` with the listed hashes.

    Files that were in the cache before were compared when they came.

    Raises:
        HubError: A file differs; it is removed from the cache.
    """
    for name in names:
        path = root / name
        if not path.is_file() or path.resolve().stat().st_ctime < since:
            continue
        expected = listed.sha256.get(name) or listed.git_sha1.get(name)
        if expected is None or _digest(path.resolve(), large=name in listed.sha256) == expected:
            continue
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise HubError(
            f"{where}: {name} was damaged on the way: it does not have the hash that the Hub lists "
            f"({expected}). It was removed from the cache; try again."
        )


def _digest(path: Path, *, large: bool) -> str:
    total = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()
