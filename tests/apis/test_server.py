"""The page's web server in a process that does other things as well."""

import logging

import pytest

pytest.importorskip('gradio')

from mmpose_attn.apis.server import make_server


def test_logs_of_others_stay_open(tmp_path):
    handler = logging.FileHandler(tmp_path / 'training.log')
    try:
        make_server(lambda scope, receive, send: None, begun=lambda: None, ends=lambda: None)
        assert handler.stream is not None
    finally:
        handler.close()
