"""Which GHN ``ghn=`` means, and one copy of it per process."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from ghn_init.errors import CheckpointError, ConfigError, HubError
from ghn_init.ghn import GHN
from ghn_init.hub.mixin import BUNDLED
from ghn_init.hub.reach import answers

HUB_ID = "SamsungSAILMontreal/ghn3"
HUB_FILE = "ghn3tm8.pt"
"""GHN-3-T of Knyazev et al., 2023 (arXiv:2303.04143)."""

ENVIRONMENT = "GHN_INIT_DEFAULT"

_CACHE_SIZE = 4
_cache: OrderedDict[tuple[Any, ...], GHN] = OrderedDict()
_lock = threading.RLock()

logger = logging.getLogger("ghn_init")


def resolve_ghn(
    ghn: bool | str | os.PathLike[str] | GHN = True,
    *,
    device: torch.device | str | int | None = None,
    **hub: Any,
) -> GHN:
    """The GHN that ``ghn`` means, loaded at most once per process; safe to call from several threads.

    Args:
        ghn: A :class:`GHN` (returned as it is); a Hub id, a folder or a file; ``"bundled"`` for the GHN
            that comes with the package; or ``True`` for the default: what the environment variable
            ``GHN_INIT_DEFAULT`` names, else ``ghn3tm8.pt`` of ``SamsungSAILMontreal/ghn3``, else, where
            the Hub cannot be reached and the file is not in the cache, the bundled one, with a warning.
            What is named explicitly, by argument or by environment, is never replaced by something else.
        device: Where a GHN that is loaded goes; the CPU by default.
        **hub: ``filename, revision, token, cache_dir, local_files_only, force_download, subfolder`` of
            :meth:`GHN.from_pretrained`.

    Raises:
        ConfigError: ``ghn`` is none of these.
        HubError: The Hub could not give the named GHN.
        CheckpointError: A file is missing, damaged or unsafe.
    """
    if isinstance(ghn, GHN):
        return ghn
    if ghn is not True and not isinstance(ghn, str | os.PathLike):
        raise ConfigError(
            f"ghn must be True, a Hub id, a path, 'bundled' or a GHN, not {ghn!r} ({type(ghn).__name__})"
        )
    named = os.environ.get(ENVIRONMENT) if ghn is True else os.fspath(ghn)
    key = (
        named,
        _fingerprint(named),
        str(device),
        *sorted((k, str(v)) for k, v in hub.items() if k != "token"),
    )
    with _lock:
        if key not in _cache or hub.get("force_download"):
            loaded = _default(device, hub) if named is None else _load(named, device, hub)
            _cache[key] = loaded.eval().requires_grad_(False)
        _cache.move_to_end(key)
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
        return _cache[key]


def forget() -> None:
    """Drop the GHNs that this process keeps loaded."""
    with _lock:
        _cache.clear()


def bundled_folder() -> Path:
    """Folder of the GHN that comes with the package."""
    return Path(__file__).resolve().parent / "assets" / "bundled"


def _load(named: str, device: Any, hub: dict[str, Any]) -> GHN:
    if named != BUNDLED:
        return GHN.from_pretrained(named, device=device, **hub)
    if not bundled_folder().is_dir():
        raise CheckpointError(
            f"this installation of ghn_init has no bundled GHN ({bundled_folder()} is missing): "
            "reinstall it, or name a GHN by Hub id or path"
        )
    loaded = GHN.from_pretrained(bundled_folder(), device=device)
    loaded.source = BUNDLED
    return loaded


def _default(device: Any, hub: dict[str, Any]) -> GHN:
    hub = {"filename": HUB_FILE, **hub}
    reason = "it is not in the cache, and the Hub does not answer or use of the network is off"
    try:
        # What is in the cache is used without asking the Hub: the default does not change under a user.
        return GHN.from_pretrained(HUB_ID, device=device, **{**hub, "local_files_only": True})
    except HubError as error:
        absent: HubError = error
    if not hub.get("local_files_only") and answers():
        try:
            return GHN.from_pretrained(HUB_ID, device=device, **hub)
        except HubError as error:
            absent, reason = error, str(error).rstrip(".")
    if not bundled_folder().is_dir():
        raise absent
    logger.warning(
        "the default GHN (%s of %s) could not be had: %s. The small GHN bundled with ghn_init is used "
        "instead. To silence this, pass ghn='bundled' or set %s.",
        HUB_FILE,
        HUB_ID,
        reason,
        ENVIRONMENT,
    )
    return _load(BUNDLED, device, {})


def _fingerprint(named: str | None) -> tuple[Any, ...]:
    """Changes when the files of a local GHN do, so that a retrained one is not taken from the cache."""
    if named is None or not os.path.exists(path := Path(named).expanduser()):
        return ()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
