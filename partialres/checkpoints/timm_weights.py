"""Fetch a timm network's published weights from the hub, and load them from their file into our backbone."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import torch
from torch import Tensor

from partialres.config import PREFIX
from partialres.files import DataError, atomic, say, write_text
from partialres.model.timm_backbone import TimmBackbone, import_timm


def fetch(backbone: str, revision: str, out: Path) -> None:
    """Download the weights of timm/NAME to `out`, and write where they come from beside it, as `out`'s name + .json.

    revision: commit, tag or branch on the hub. The .json holds repository, commit and SHA-256.
    Raises DataError, ending in the cure, if there are none, or without a network; ConfigError as `import_timm` does.
    """
    timm = import_timm()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cfg = timm.get_pretrained_cfg(backbone.removeprefix(PREFIX))
    if cfg is None or not cfg.hf_hub_id or cfg.custom_load:
        raise DataError(
            f"{backbone}: timm has no weights of it that this can load; set init_backbone to random or a file"
        )
    by_hand = f"put model.safetensors of {cfg.hf_hub_id} there by hand: {out}"
    folder = out.parent / f".{out.stem}"
    try:
        path = Path(hf_hub_download(cfg.hf_hub_id, "model.safetensors", revision=revision, local_dir=folder))
    except (RepositoryNotFoundError, RevisionNotFoundError, RemoteEntryNotFoundError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{backbone}: no file at {revision!r} of {cfg.hf_hub_id} ({reason:.120}); {by_hand}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{backbone}: the hub does not answer ({reason:.120}); run again with a network, or {by_hand}"
        ) from error
    record = folder / ".cache/huggingface/download/model.safetensors.metadata"  # its first line is the commit
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    origin = {"repository": cfg.hf_hub_id, "commit": record.read_text().split()[0], "sha256": digest}
    write_text(json.dumps(origin, indent=1) + "\n", out.with_name(f"{out.name}.json"))
    with atomic(out) as temporary:
        path.replace(temporary)
    shutil.rmtree(folder)
    say(f"{out}: commit {origin['commit']} of {cfg.hf_hub_id}; SHA-256 {digest}")


def load(backbone: TimmBackbone, path: Path) -> None:
    """Load a timm weights file (.safetensors) into a backbone; raises DataError if it is of another network."""
    timm = import_timm()
    given = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path), "custom_load": False}}
    try:
        timm.create_model(backbone.name, **given)  # with its classifier, because the one without does not miss weights
        state: dict[str, Tensor] = timm.create_model(backbone.name, **backbone.options, **given).state_dict()
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: its weights are not those of {PREFIX}{backbone.name} ({reason:.200})") from error
    if not all(torch.isfinite(tensor).all() for tensor in state.values()):
        raise DataError(f"{path}: has a NaN or infinite value; download it again")
    backbone.network.load_state_dict(state)
