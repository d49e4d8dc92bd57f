"""What has been found so far: taps by site, and for each site that is missing the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.models.discovery.recording import Call
    from harness.models.family import Tap


@dataclass(slots=True, kw_only=True)
class Found:
    """Taps and attention modules by site, norms by site, and why sites are missing."""

    taps: dict[str, Tap] = field(default_factory=dict)
    attention: dict[str, str] = field(default_factory=dict)
    norms: dict[str, Call] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    rotary: bool = False
    post_norm: bool = False

    def take(self, site: str, tap: Tap | None, why: str) -> None:
        """Take a site's tap, or note why there is none; no tap and no reason is no site."""
        if tap is not None:
            self.taps[site] = tap
        elif why:
            self.missing[site] = why

    def take_all(self, prefix: str, taps: Mapping[str, Tap]) -> None:
        """Take several sites of one block."""
        for site, tap in taps.items():
            self.taps[f"{prefix}.{site}"] = tap

    def drop(self, site: str, why: str) -> None:
        """Take a site back, and note why."""
        self.taps.pop(site, None)
        self.norms.pop(site, None)
        self.missing[site] = why
