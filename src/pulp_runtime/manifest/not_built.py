"""Fields whose feature does not exist yet.

Setting one is an error, for a setting that is read and ignored is worse than
none. Whoever builds a feature deletes its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Field of `CellSpec` to the sentence that follows its name.
NOT_BUILT: Final[Mapping[str, str]] = {
    "migratable": "needs cells that move between hosts, which this version does not have",
    "federated_callers": "needs calls between hosts, which this version does not have",
    "federated_consumes": "needs calls between hosts, which this version does not have",
}
