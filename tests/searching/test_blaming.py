from types import SimpleNamespace

import pytest

from harness.errors import UsageError
from harness.searching.blaming import shown_change, suspects_of
from harness.versions.resolving import versions_in


def subject(spec, lock):
    text = lock.replace(" ", "\n")
    return SimpleNamespace(
        spec=spec, environment=SimpleNamespace(lock=text, versions=versions_in(text))
    )


OLD = subject("einops==0.7 transformers==4.0", "einops==0.7 numpy==1 torch==2 transformers==4.0")


def suspects(lock):
    return suspects_of(OLD, subject("transformers==5.0", lock))


def test_what_changed_is_suspected_the_likeliest_first():
    found = suspects("einops==0.8 numpy==2 torch==2 transformers==5.0 typer==1")
    assert list(map(shown_change, found.changes)) == [
        "transformers 4.0 → 5.0",
        "numpy 1 → 2",
        "einops 0.7 → 0.8",
    ]
    assert found.likely == 2


def test_what_is_named_or_measured_is_held_whatever_a_set_forces():
    found = suspects("einops==0.8 numpy==2 torch==2 transformers==5.0")
    transformers, numpy, einops = found.changes
    assert found.spec([transformers]) == "einops==0.7 torch==2 transformers==5.0"
    assert found.spec([numpy]) == "einops==0.7 torch==2 transformers==4.0 numpy==2"
    assert found.spec([transformers, einops]) == "einops==0.8 torch==2 transformers==5.0"


def test_sides_with_the_same_packages_leave_nothing_to_blame():
    with pytest.raises(UsageError, match=r"(?s)nothing to blame.*next:"):
        suspects("einops==0.7 numpy==1 torch==2 transformers==4.0 typer==1")
