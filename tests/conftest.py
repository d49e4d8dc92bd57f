"""What all tests share: one profile for properties, and one thread per process."""

import os

import hypothesis
import pytest

# The first torch call alone takes longer than hypothesis' usual deadline of 200 ms.
hypothesis.settings.register_profile("harness", deadline=None, max_examples=30, print_blob=True)
hypothesis.settings.load_profile("harness")

# Tensors here are tiny: a second thread costs more than it does, the more so beside other workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def one_cache(tmp_path_factory):
    """Give a module's processes one cache of their own: checkpoints are made once, and go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
