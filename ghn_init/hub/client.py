"""Download from and push to the Hugging Face Hub; the only module that imports ``huggingface_hub``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ghn_init.errors import GHNInitError, HubError
from ghn_init.hub.folder import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    config_json,
    require_finite,
    write_weights_file,
)

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

    One snapshot call fetches configuration and weights, so both are of the same commit.

    Raises:
        HubError: missing, gated or private repository, missing revision or file, no network and not in the
            cache, invalid id, or a failing server.
    """
    from huggingface_hub import snapshot_download

    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    wanted = [f"{prefix}{name}" for name in _wanted(filename)]
    with hub_errors(repo_id, revision):
        snapshot = snapshot_download(
            repo_id,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
            allow_patterns=wanted,
            library_name="ghn_init",
        )
    root = Path(snapshot)
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
    with hub_errors(repo_id, revision), tempfile.TemporaryDirectory(prefix="ghn_init-") as scratch:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id  # now with its owner
        if revision is not None and not create_pr:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        info = api.model_info(repo_id, revision=revision)
        present = {sibling.rfilename for sibling in info.siblings or ()}
        held = sorted(present & {CONFIG_FILE, WEIGHTS_FILE})
        if held and not overwrite and not create_pr:
            raise HubError(
                f"{repo_id} ({revision or 'main'}) already holds {' and '.join(held)}. Pass overwrite=True "
                "to replace them (the old commit stays in the history), create_pr=True to propose the "
                "change, or another name."
            )
        weights = Path(scratch) / WEIGHTS_FILE
        write_weights_file(weights, config, state)
        contents: dict[str, bytes | Path] = {CONFIG_FILE: config_json(config).encode(), WEIGHTS_FILE: weights}
        if card is not None or CARD_FILE not in present:
            contents[CARD_FILE] = (card or default_card(repo_id)).encode()
        done = api.create_commit(
            repo_id,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in contents.items()],
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
            parent_commit=info.sha,
        )
    return str(done.oid)


@contextmanager
def hub_errors(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn every error of the Hub client into one HubError that says what to do."""
    from huggingface_hub import errors

    at = f"{repo_id} (revision {revision})" if revision else repo_id
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"{at} is gated: accept its conditions at {_page(repo_id)} with your account, then log in "
            "(`hf auth login`) or pass token=."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"there is no repository {repo_id} on the Hub that you can see. Check the spelling; if it is "
            "private, log in (`hf auth login`) or pass token=. A local folder of that name does not exist "
            "either."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"{repo_id} has no revision {revision!r}: give a branch, a tag or a full commit hash listed at "
            f"{_page(repo_id)}/commits."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise HubError(_unreachable_message(at, error)) from error
    except errors.HFValidationError as error:
        raise HubError(
            f"{repo_id!r} is neither a local folder or file nor a valid Hub id ('user/name'): {error}"
        ) from error
    except errors.HfHubHTTPError as error:
        raise HubError(_http_message(at, error)) from error
    except GHNInitError:
        raise
    except (_transport_error(), errors.EntryNotFoundError, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ or error
        if getattr(cause, "response", None) is not None:
            raise HubError(_http_message(at, cause)) from error
        raise HubError(
            f"{at}: the exchange with the Hub failed ({type(cause).__name__}: {_first_line(cause)}). "
            "Check the connection and try again."
        ) from error


def _transport_error() -> type[BaseException]:
    """Base of the HTTP library's own errors (httpx or requests, by the Hub client's version)."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__bases__[0]


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
    return f"{message} See its files at {_page(repo_id)}/tree/{revision or 'main'}."


def _weight_files(repo_id: str, commit: str, token: str | bool | None) -> list[str]:
    """Files of the repository that may hold a GHN; empty when the Hub cannot be asked now."""
    from huggingface_hub import HfApi, errors

    try:
        names = HfApi(token=token).list_repo_files(repo_id, revision=commit)
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError):
        return []
    return [name for name in names if name.endswith(_SUFFIXES)][:12]


def _unreachable_message(at: str, error: BaseException) -> str:
    cause: BaseException = error.__cause__ or error
    if getattr(cause, "response", None) is not None:
        return f"{_http_message(at, cause)} It is not in the local cache."
    return (
        f"{at} is not in the local cache and the Hub could not be reached or use of the network is off "
        f"({type(cause).__name__}: {_first_line(cause)}). Connect, unset HF_HUB_OFFLINE, drop "
        "local_files_only=True, "
        "or give a local folder."
    )


def _http_message(at: str, error: Any) -> str:
    status = 0 if error.response is None else int(error.response.status_code)
    advice = {
        401: "The token is missing or invalid: log in (`hf auth login`) or pass token=.",
        403: "The token may not do this: use one with write access to this repository.",
        409: "The repository changed meanwhile or the name is taken: try again.",
        412: "The repository changed while the push was prepared: look at it and try again.",
        429: "The Hub asks to slow down: wait a few minutes and try again.",
    }.get(status, "")
    if status >= 500:
        advice = "The Hub itself is failing: try again later."
    return f"{at}: the Hub answered {status or 'nothing'} ({_first_line(error)}). {advice}".rstrip()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no details"


def _page(repo_id: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo_id}"
