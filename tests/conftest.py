import os

# one thread a process: several tests run side by side
os.environ.setdefault('OMP_NUM_THREADS', '1')

# MMEngine's yapf writes its grammar into the user's cache when it is first imported, and a second
# process that reads the file meanwhile fails. The one that starts the others comes first here.
import mmengine  # noqa: F401
import pytest


@pytest.fixture(scope='module')
def mmpose_scope():
    """What ``default_scope = 'mmpose'`` in a config does, for one test module."""
    from mmengine.registry import DefaultScope

    import mmpose_attn  # noqa: F401

    with DefaultScope.overwrite_default_scope('mmpose'):
        yield


@pytest.fixture
def no_roots(monkeypatch):
    """The configs' data folders as they are without any environment variable."""
    from tests.config_helpers import ROOTS

    for root in ROOTS:
        monkeypatch.delenv(root, raising=False)
