"""No config is refused by what every config is checked for."""

import pytest

from mmpose_attn.engine import find_disagreements
from mmpose_attn.engine.agreement import parts_of_config
from tests.config_helpers import NAMES, load

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('name', NAMES)
def test_every_config_agrees(name, no_roots):
    parts = parts_of_config(load(name))
    # the data of most are not here
    parts.broken = [one for one in parts.broken if 'FileNotFound' not in one.problem]
    assert find_disagreements(parts) == []
