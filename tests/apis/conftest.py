import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from mmpose_attn.apis import PersonDetector
from tests.data_helpers import make_small_dataset, real_data
from tests.inference_helpers import write_networks

CHROMIUM = Path('/usr/bin/chromium')
FLAGS = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
]
SECONDS = 120_000  # milliseconds until a test gives up; what it waits for takes one or two


@pytest.fixture(scope='session')
def networks(tmp_path_factory):
    """``{'topdown' or 'bottomup': (config, checkpoint)}``."""
    return write_networks(tmp_path_factory.mktemp('networks'))


@pytest.fixture(scope='session')
def pictures(tmp_path_factory):
    """A folder of three small pictures of synthetic people."""
    root = make_small_dataset(tmp_path_factory.mktemp('pictures') / 'coco', 1, 3)
    return root / 'val2017'


@pytest.fixture(scope='session')
def detector(tmp_path_factory):
    """Name and weights of a small one: the real ones if they are there."""
    try:
        return 'yolox_nano', str(real_data('detector', 'yolox_nano_mmdet.pth'))
    except pytest.skip.Exception:
        path = tmp_path_factory.mktemp('detector') / 'yolox_nano.pth'
        model = PersonDetector('yolox_nano', device='cpu').model
        torch.save(dict(state_dict=model.state_dict()), path)
        return 'yolox_nano', str(path)


@pytest.fixture(scope='module')
def browser():
    playwright = pytest.importorskip('playwright.sync_api')
    if not CHROMIUM.exists():
        pytest.skip(f'no browser: {CHROMIUM} not found (Debian: apt install chromium)')
    with ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        play = stack.enter_context(playwright.sync_playwright())
        context = play.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=FLAGS
        )
        stack.callback(context.close)
        context.set_default_timeout(SECONDS)
        yield context
