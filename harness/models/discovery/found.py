"""What has been found so far: taps by site, and for each site that is missing the reason."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.models.discovery.recording import Call
    from harness.models.family import Tap


# What a model whose build was not foreseen can raise where its recording is read.
_SURPRISES: Final = (
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)

_UNCONFIRMED: Final = "it could not be read on a second prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """A site's value is made of those at other sites; `blamed` are taken back if it is not.

    `given` names the sites by the values of the recording for which they stand. `adds`: it is the
    stream behind a branch, which may be their sum.
    """

    site: str
    value: int
    given: Mapping[int, str]
    blamed: tuple[str, ...]
    adds: bool = False


@dataclass(slots=True, kw_only=True)
class Found:
    """Taps and attention modules by site, norms by site, and why sites are missing.

    `turned` are the attentions whose queries are turned by their position, `weighed` those whose
    values enter the product as they were projected, `sums` what is added at the places of the
    stream that are plain sums. `equations` are still to be confirmed.
    """

    taps: dict[str, Tap] = field(default_factory=dict)
    attention: dict[str, str] = field(default_factory=dict)
    norms: dict[str, Call] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    turned: set[str] = field(default_factory=set)
    weighed: set[str] = field(default_factory=set)
    sums: dict[str, tuple[str, ...]] = field(default_factory=dict)
    equations: list[Equation] = field(default_factory=list)
    sinks: bool = False
    scores_shifted: bool = False
    layer_norm: bool = False
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

    @contextmanager
    def looking_for(self, sites: str) -> Iterator[None]:
        """Note what is raised while sites are looked for; the others are looked for still."""
        try:
            yield
        except _SURPRISES as error:
            self.missing[sites] = f"looking for it raised {type(error).__name__}: {error}"

    def expect(self, site: str, value: int, given: Mapping[int, str], *blamed: str) -> None:
        """Expect a site to be made of others, as far as all of them have been found."""
        if {site, *given.values()} <= set(self.taps):
            self.equations.append(
                Equation(site=site, value=value, given=given, blamed=(site, *blamed))
            )

    def expect_stream(
        self, site: str, value: int, given: Mapping[int, str], blamed: tuple[str, ...]
    ) -> None:
        """Expect the stream at a site to be made of where it was read before, and of branches."""
        if {site, *given.values()} <= set(self.taps):
            self.equations.append(
                Equation(site=site, value=value, given=given, blamed=blamed, adds=True)
            )

    def drop_all(self) -> None:
        """Take every site back: nothing was confirmed."""
        for site in list(self.taps):
            self.drop(site, _UNCONFIRMED)
        for prefix in list(self.attention):
            self.attention.pop(prefix)
            self.missing[f"{prefix}.pattern"] = _UNCONFIRMED

    def drop(self, site: str, why: str) -> None:
        """Take a site back, and note why."""
        self.taps.pop(site, None)
        self.norms.pop(site, None)
        self.missing[site] = why
