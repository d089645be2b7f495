"""What tests need that build a timm network: timm, and one small network of each family."""

from __future__ import annotations

import pytest

from partialres.config import ConfigError
from partialres.model.timm_backbone import import_timm

try:
    import_timm()
    REASON = ""
except ConfigError as error:
    REASON = str(error)

needs_timm = pytest.mark.skipif(bool(REASON), reason=REASON or "-")
SMALL = "timm/test_resnet"  # batch norm, 0.5 million weights
