import pytest

from tests.data_helpers import make_small_dataset
from tests.inference_helpers import write_networks


@pytest.fixture(scope='session')
def networks(tmp_path_factory):
    """``{'topdown' or 'bottomup': (config, checkpoint)}``."""
    return write_networks(tmp_path_factory.mktemp('networks'))


@pytest.fixture(scope='session')
def pictures(tmp_path_factory):
    """A folder of three small pictures of synthetic people."""
    root = make_small_dataset(tmp_path_factory.mktemp('pictures') / 'coco', 1, 3)
    return root / 'val2017'
