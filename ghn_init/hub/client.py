"""Download from and push to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ghn_init.errors import HubError
from ghn_init.hub.folder import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    config_json,
    require_finite,
    write_weights_file,
)
from ghn_init.hub.listing import check_downloads, listing
from ghn_init.hub.messages import hub_errors, page
from ghn_init.hub.patience import patiently
from ghn_init.logging import is_progress_bar_enabled

_SUFFIXES = (".safetensors", ".pt", ".pth", ".joblib")


def download(
    repo_id: str,
    *,
    filename: str | None = None,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: Any = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> tuple[Path, str]:
    """Files of one commit of a Hub repository: (folder or file in the cache, commit hash).

    One snapshot call fetches configuration and weights, so both are of the same commit. What was downloaded
    has the hashes that the Hub lists, or it is removed from the cache.

    Raises:
        HubError: missing, gated or private repository, missing revision or file, no network and not in the
            cache, a cache that cannot be written, invalid id, a damaged download, or a failing server.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    wanted = [f"{prefix}{name}" for name in _wanted(filename)]
    beside = [] if filename else [f"{prefix}{CARD_FILE}"]
    start = time.time()
    with hub_errors(repo_id, revision), _bars():
        listed, silence = (None, None) if local_files_only else listing(repo_id, revision, token)
        try:
            snapshot = patiently(
                lambda: snapshot_download(
                    repo_id,
                    revision=revision,
                    token=token,
                    cache_dir=cache_dir,
                    local_files_only=local_files_only or silence is not None,
                    force_download=force_download,
                    allow_patterns=[*wanted, *beside],
                    library_name="ghn_init",
                )
            )
        except LocalEntryNotFoundError as absent:
            raise absent from (silence or absent.__cause__)
    root = Path(snapshot)
    if listed is not None and listed.commit == root.name:
        check_downloads(root, wanted, listed, since=start, where=repo_id)
    required = wanted[-1:] if filename else wanted
    absent = [name for name in required if not (root / name).is_file()]
    if absent:
        raise HubError(
            _absent_message(repo_id, revision, root.name, absent, filename, token, local_files_only)
        )
    return (root / wanted[-1] if filename else root / prefix), root.name


def push(
    repo_id: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    card: str | None,
    default_card: Callable[[str], str],
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    commit_message: str,
    create_pr: bool,
    overwrite: bool,
) -> str:
    """One commit with configuration, weights and card; returns the commit's hash.

    The commit names the state of the branch that was checked as its parent, so a push that races another
    fails instead of overwriting it.

    Raises:
        CheckpointError: a weight is not finite; nothing is sent.
        HubError: the repository already holds a GHN and ``overwrite`` is false, or the Hub refused.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    require_finite(state, "this GHN")
    api = HfApi(token=token, library_name="ghn_init")
    with hub_errors(repo_id, revision), _bars(), tempfile.TemporaryDirectory(prefix="ghn_init-") as scratch:
        weights = Path(scratch) / WEIGHTS_FILE
        write_weights_file(weights, config, state)  # before anything exists on the Hub: the disk may be full
        made = patiently(lambda: api.create_repo(repo_id, private=private, exist_ok=True))
        full_id = made.repo_id  # with its owner
        if revision is not None and not create_pr:
            patiently(lambda: api.create_branch(full_id, branch=revision, exist_ok=True))
        info = patiently(lambda: api.model_info(full_id, revision=revision))
        present = {sibling.rfilename for sibling in info.siblings or ()}
        held = sorted(present & {CONFIG_FILE, WEIGHTS_FILE})
        if held and not overwrite and not create_pr:
            raise HubError(
                f"{full_id} ({revision or 'main'}) already holds {' and '.join(held)}. Pass overwrite=True "
                "to replace them (the old commit stays in the history), create_pr=True to propose the "
                "change, or another name."
            )
        contents: dict[str, bytes | Path] = {CONFIG_FILE: config_json(config).encode(), WEIGHTS_FILE: weights}
        if card is not None or CARD_FILE not in present:
            contents[CARD_FILE] = (card or default_card(full_id)).encode()
        done = patiently(
            lambda: api.create_commit(
                full_id,
                [CommitOperationAdd(name, data) for name, data in contents.items()],
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
                parent_commit=info.sha,
            )
        )
    return str(done.oid)


@contextmanager
def _bars() -> Iterator[None]:
    """Hide the Hub client's progress bars in the block where ours are off."""
    from huggingface_hub import constants
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    fixed = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None  # the client's environment wins, and warns
    if is_progress_bar_enabled() or fixed or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _wanted(filename: str | None) -> list[str]:
    if filename is None:
        return [CONFIG_FILE, WEIGHTS_FILE]
    return [CONFIG_FILE, filename] if filename.endswith(".safetensors") else [filename]


def _absent_message(
    repo_id: str,
    revision: str | None,
    commit: str,
    absent: list[str],
    filename: str | None,
    token: str | bool | None,
    local_files_only: bool,
) -> str:
    at = f"{repo_id} (revision {revision or 'main'}, commit {commit[:12]})"
    message = f"{at} has no {' and no '.join(absent)}."
    files = [] if local_files_only else _weight_files(repo_id, commit, token)
    if files:
        return f"{message} It holds {', '.join(files)}: name one with filename=."
    if filename is None:
        return f"{message} It is no GHN in this library's format; name one of its files with filename=."
    return f"{message} See its files at {page(repo_id)}/tree/{revision or 'main'}."


def _weight_files(repo_id: str, commit: str, token: str | bool | None) -> list[str]:
    """Files of the repository that may hold a GHN; empty when the Hub cannot be asked now."""
    from huggingface_hub import HfApi, errors

    try:
        names = HfApi(token=token).list_repo_files(repo_id, revision=commit)
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError):
        return []
    return [name for name in names if name.endswith(_SUFFIXES)][:12]
