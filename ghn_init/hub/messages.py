"""What the Hub's answers and the lack of one mean for the user: one HubError that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ghn_init.errors import GHNInitError, HubError
from ghn_init.hub.patience import asked_wait

_OF_THE_DISK = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
        *(errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    }
)


@contextmanager
def hub_errors(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn every error of the Hub client into one HubError that says what to do."""
    from huggingface_hub import errors

    at = f"{repo_id} (revision {revision})" if revision else repo_id
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"{at} is gated: accept its conditions at {page(repo_id)} with your account, then log in "
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
            f"{page(repo_id)}/commits."
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
    except (transport_error(), errors.EntryNotFoundError, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ or error
        if getattr(error, "errno", None) in _OF_THE_DISK:
            raise HubError(
                f"{at}: a file cannot be kept here ({error}). Give a folder that can be written and has "
                "room, with cache_dir= or the variable HF_HOME."
            ) from error
        if getattr(cause, "response", None) is not None:
            raise HubError(_http_message(at, cause)) from error
        raise HubError(
            f"{at}: the exchange with the Hub failed ({type(cause).__name__}: {_first_line(cause)}). "
            "Check the connection and try again."
        ) from error


def transport_error() -> type[BaseException]:
    """Base of the HTTP library's own errors (httpx or requests, by the Hub client's version)."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__bases__[0]


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
        429: f"The Hub asks to slow down: wait {_how_long(error)} and try again.",
    }.get(status, "")
    if status >= 500:
        advice = "The Hub itself is failing: try again later."
    return f"{at}: the Hub answered {status or 'nothing'} ({_first_line(error)}). {advice}".rstrip()


def _how_long(error: Any) -> str:
    seconds = asked_wait(error)
    return "a few minutes" if seconds is None or not seconds > 0 else f"{seconds:g} seconds"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no details"


def page(repo_id: str) -> str:
    """Where people see the repository."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo_id}"
