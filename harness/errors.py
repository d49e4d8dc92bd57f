"""What can go wrong, as a tree. "Could not ask" raises from here; "the port differs" is a result.

HarnessError                 every sentence ends with what to do next
├── UsageError               exit code 2: the question was not well put
│   ├── SelectionError       an unknown family, mode, dtype, device; an empty selection
│   ├── RunFolderError       a folder that is not a run, or a part that cannot be read
│   └── RequirementError     a spec that is no requirement, or that no release meets
├── PortError            a plugged port that does not keep the interface; names its package
├── CheckpointError          a checkpoint that is corrupt, or lacks or has too many tensors
├── CaptureError             sites asked for and sites got are not the same
├── ConventionError          hidden_states[-1] is not what the family's record declares
└── Unavailable              the cell cannot be measured here, for a reason outside the harness
    ├── EnvironmentUnavailable  no such Python, no index, or a package that cannot be installed
    └── Refused              the port says itself that it does not do this model or mode
"""

from __future__ import annotations


class HarnessError(Exception):
    """The base of every error that the harness raises on purpose."""


class UsageError(HarnessError):
    """The question was not well put; the command line exits with 2."""


class SelectionError(UsageError):
    """A name that is not in the matrix, or a selection that selects nothing."""


class RunFolderError(UsageError):
    """A folder that is not a run, or a stored part that cannot be read."""


class RequirementError(UsageError):
    """A spec that is not a list of requirements, or that no set of releases meets."""


class PortError(HarnessError):
    """A port of another package that cannot be imported, or does not keep the interface."""


class CheckpointError(HarnessError):
    """A checkpoint that cannot be trusted: corrupt, or with missing or extra tensors."""


class CaptureError(HarnessError):
    """The sites asked for and the sites got are not the same."""


class ConventionError(HarnessError):
    """The last hidden state is not what the family's record declares, or nobody could tell."""


class Unavailable(HarnessError):
    """A cell that cannot be measured here; the reason lies outside the harness."""


class EnvironmentUnavailable(Unavailable):
    """An isolated environment that cannot be had here: its Python, an index, a build, torch."""


class Refused(Unavailable):
    """The port says itself that it does not support this model or loading mode."""
