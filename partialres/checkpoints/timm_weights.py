"""Download a timm network's published weights from the hub, and load such a file into our backbone."""

import shutil
from pathlib import Path

import torch
from torch import Tensor

from partialres.config import PREFIX
from partialres.files import DataError, atomic, read_json, say, sha256, write_json
from partialres.model.timm_backbone import TimmBackbone, import_timm, short


def fetch(backbone: str, revision: str, out: Path) -> None:
    """Download the weights of timm/NAME to `out`, and write repository, commit and SHA-256 to `out` + .json.

    A .json that is already there, from an earlier download, must say the same.
    revision: commit, tag or branch on the hub. Raises DataError if there are no weights or no network, or if the
    weights are not those of the .json; ConfigError as `import_timm` does.
    """
    timm = import_timm()
    from huggingface_hub import errors, hf_hub_download

    cfg = timm.get_pretrained_cfg(backbone.removeprefix(PREFIX))
    if cfg is None or not cfg.hf_hub_id or cfg.custom_load:
        raise DataError(
            f"{backbone}: timm has no weights for it in a plain file; set init_backbone to random or a file"
        )
    by_hand = f"put model.safetensors of {cfg.hf_hub_id} by hand to {out}"
    folder = out.parent / f".{out.stem}"
    try:
        path = Path(hf_hub_download(cfg.hf_hub_id, "model.safetensors", revision=revision, local_dir=folder))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
        place = f"{revision!r} of {cfg.hf_hub_id}"
        raise DataError(f"{backbone}: no file at {place} ({short(error)}); {by_hand}") from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        reason = f"the hub does not answer ({short(error)})"
        raise DataError(f"{backbone}: {reason}; run again with a network, or {by_hand}") from error
    metadata = folder / ".cache/huggingface/download/model.safetensors.metadata"  # its first line is the commit
    origin = {"repository": cfg.hf_hub_id, "commit": metadata.read_text().split()[0], "sha256": sha256(path)}
    record = out.with_name(f"{out.name}.json")
    earlier = read_json(record) if record.exists() else origin
    changes = [f"{key} was {earlier.get(key)}, is {now}" for key, now in origin.items() if earlier.get(key) != now]
    if changes:
        shutil.rmtree(folder)
        cure = "set downloads.revision to the earlier commit, or delete this record to take the new weights"
        raise DataError(f"{record}: the weights at {revision!r} differ: {'; '.join(changes)}; {cure}")
    write_json(origin, record)
    with atomic(out) as temporary:
        path.replace(temporary)
    shutil.rmtree(folder)
    say(f"{out}: commit {origin['commit']} of {cfg.hf_hub_id}; SHA-256 {origin['sha256']}")


def load(backbone: TimmBackbone, path: Path) -> None:
    """Load a timm weights file (.safetensors) into a backbone; raises DataError if it is another network's."""
    timm = import_timm()
    given = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path), "custom_load": False}}
    try:
        # First with its classifier: without it, timm does not notice that weights are missing.
        timm.create_model(backbone.name, **given)
        state: dict[str, Tensor] = timm.create_model(backbone.name, **backbone.options, **given).state_dict()
    except (RuntimeError, KeyError, ValueError) as error:
        wrong = f"its weights are not those of {PREFIX}{backbone.name} ({short(error)})"
        raise DataError(f"{path}: {wrong}; give that network's file, or set init_backbone: pretrained") from error
    if not all(torch.isfinite(tensor).all() for tensor in state.values()):
        raise DataError(f"{path}: has a NaN or infinite value; download it again")
    backbone.network.load_state_dict(state)
