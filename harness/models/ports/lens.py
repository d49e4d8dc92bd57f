"""What the ports of TransformerLens share: the installed release, its refusals, and quiet."""

from __future__ import annotations

import contextlib
import io
import linecache
import logging
import re
import traceback
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet

from harness.errors import Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def require_release(allowed: str, *, of: str) -> None:
    """Make sure that the installed TransformerLens has what is to be measured.

    The release is asked for by its number: on TransformerLens 4 `hasattr(transformer_lens,
    "HookedTransformer")` raises.

    Args:
        allowed: The releases that have it, e.g. `<4`.
        of: What they have, e.g. `HookedTransformer`.

    Raises:
        Unavailable: TransformerLens is not installed, or is another release.
    """
    try:
        installed = version("transformer_lens")
    except PackageNotFoundError:
        message = "transformer-lens is not installed in this environment"
        raise Unavailable(message) from None
    if not SpecifierSet(allowed).contains(installed, prereleases=True):
        message = f"transformer-lens {installed} has no {of}; it takes transformer-lens{allowed}"
        raise Unavailable(message)


@contextlib.contextmanager
def refusals(words: Sequence[str]) -> Iterator[None]:
    """Turn TransformerLens' own words of refusal into `Refused`; leave every other error alone.

    torch says of operations, too, that they are not supported: those are crashes.
    """
    try:
        yield
    except (ValueError, NotImplementedError, RuntimeError, AssertionError) as error:
        if any(word in str(error) for word in words) and _is_said(error):
            # An unknown name is answered with the list of some two hundred that are known.
            first = re.split(r"\s*[\[{]", str(error).strip().splitlines()[0])[0]
            message = f"transformer-lens {version('transformer_lens')}: {first}"
            raise Refused(message) from error
        raise


def _is_said(error: Exception) -> bool:
    """Tell a `raise` or an `assert` outside torch from what an operation of torch throws."""
    if isinstance(error, AssertionError):
        return True
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    file = frame.f_code.co_filename
    return "/torch/" not in file and linecache.getline(file, line).lstrip().startswith("raise")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TransformerLens' advice and its prints out of the report; errors still raise."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
