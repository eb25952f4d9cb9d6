"""``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` for a GHN class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from ghn_init.assets import BUNDLED_GHN
from ghn_init.hub.card import carried_over, model_card
from ghn_init.hub.folder import CARD_FILE, require_finite, write_folder
from ghn_init.hub.pretrained import PretrainedFiles, build, locate, read, read_card

BUNDLED = "bundled"
"""Name of the GHN in the package."""

Self = TypeVar("Self", bound="PretrainedMixin")


class PretrainedMixin(nn.Module):
    """Loading and saving for a module that is built as ``cls(config)`` with a ``config_class``.

    ``config_class`` offers ``from_dict(dict)`` and ``to_dict()``; the instance keeps its configuration in
    ``config``.
    """

    config_class: ClassVar[Any]
    config: Any
    source: str | None = None
    """The Hub id or path that the weights were loaded from; None for a GHN that was not loaded."""
    commit: str | None = None
    """Commit hash of the Hub repository that the weights came from."""
    _card: str | None = None
    _as_loaded: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_pretrained(
        cls: type[Self],
        id_or_path: str | os.PathLike[str],
        *,
        filename: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        subfolder: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | int | None = None,
    ) -> Self:
        """Load a GHN from a folder, a file, or the Hub; no code of a file is ever executed.

        Args:
            id_or_path: one of a folder written by ``save_pretrained``; a single file (``.safetensors``, or an
                original GHN-1, GHN-2 or GHN-3 checkpoint, joblib or torch); a Hub id such as ``"me/my-ghn"``;
                ``"bundled"`` for the GHN in the package.
            filename: the file to read in the folder or Hub repository, when it is not ``model.safetensors``:
                for example ``"ghn3tm8.pt"`` of ``"SamsungSAILMontreal/ghn3"``.
            revision: branch, tag or commit hash of the Hub repository.
            token: Hub token; True uses the stored one, False sends none.
            cache_dir: where downloads are kept; the Hub library's own cache by default.
            local_files_only: use only what is in the cache.
            force_download: download again what is in the cache.
            subfolder: folder inside the Hub repository or the local folder.
            dtype: floating-point type of the weights; as stored by default.
            device: where the weights go; the CPU by default.

        Returns:
            The GHN in evaluation mode, with ``source`` and ``commit`` set.

        Raises:
            HubError: the Hub could not give the files; the message says why and what to do.
            CheckpointError: a file is missing, damaged, unsafe, not finite, or does not fit its
                configuration.
            ConfigError: the configuration is invalid or of an unknown primitive vocabulary.
        """
        bundled = id_or_path == BUNDLED
        files = locate(
            BUNDLED_GHN if bundled else id_or_path,
            filename=filename,
            subfolder=subfolder,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        ghn = cls._from_files(files, dtype=dtype, device=device)
        if bundled:
            ghn.source = BUNDLED
        return ghn

    @classmethod
    def _from_files(
        cls: type[Self], files: PretrainedFiles, *, dtype: torch.dtype | None, device: Any
    ) -> Self:
        config, state = read(files)
        ghn = build(cls, cls.config_class.from_dict(config), state, files.source, dtype=dtype, device=device)
        ghn.source, ghn.commit = files.source, files.commit
        ghn._card, ghn._as_loaded = read_card(files), ghn._versions()
        return ghn.eval()

    def save_pretrained(self, directory: str | os.PathLike[str], *, card: str | None = None) -> Path:
        """Write ``config.json``, ``model.safetensors`` and a model card ``README.md`` to ``directory``.

        Files of an earlier save are replaced as a whole. A card that is already there is kept unless ``card``
        is given.

        Returns:
            The folder, as a path.

        Raises:
            CheckpointError: the folder cannot be written, or a weight is not finite or on the meta device.
        """
        require_finite(self.state_dict(), "this GHN")
        folder = Path(directory)
        if card is None and not (folder / CARD_FILE).exists():
            card = self._default_card(str(directory))
        write_folder(folder, self.config.to_dict(), self.state_dict(), card)
        return folder

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload GHN",
        create_pr: bool = False,
        overwrite: bool = False,
        card: str | None = None,
    ) -> str:
        """Publish the GHN as one commit: configuration, weights and card together or nothing.

        Args:
            repo_id: ``"user/name"`` or ``"organisation/name"``; created when it does not exist.
            private: visibility of a repository that is created here; the account's default when None.
            token: Hub token; the stored one by default.
            revision: branch to commit to; created from the main branch when it does not exist.
            commit_message: first line of the commit.
            create_pr: open a pull request instead of committing to the branch.
            overwrite: replace a GHN that the repository already holds; refused otherwise.
            card: text of ``README.md``; when None, written from the configuration, with the licence and the
                sections (training, results) of the card that these weights were loaded with. A card that the
                repository already has is kept unless this is given.

        Returns:
            The commit's hash, which ``from_pretrained(..., revision=hash)`` takes.

        Raises:
            HubError: the Hub refused; nothing was published. The message says why and what to do.
        """
        from ghn_init.hub.client import push

        return push(
            repo_id,
            self.config.to_dict(),
            self.state_dict(),
            card=card,
            default_card=self._default_card,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
            overwrite=overwrite,
        )

    def _default_card(self, reference: str) -> str:
        """The card under a new name. What the loaded card says of training and results is true of the same
        weights only.
        """
        unchanged = self._card is not None and self._as_loaded == self._versions()
        known = carried_over(self._card) if self._card is not None and unchanged else {}
        count = sum(parameter.numel() for parameter in self.parameters())
        return model_card(self.config.to_dict(), count, reference, **known)

    def _versions(self) -> tuple[tuple[int, int], ...]:
        """Changes when a parameter is replaced or written to in place."""
        return tuple((id(p), -1 if p.is_inference() else p._version) for p in self.parameters())
