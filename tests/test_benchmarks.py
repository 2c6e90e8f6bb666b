"""The benchmarks: they run, compare equal things, and report ratios of medians."""

import runpy
import sys

import numpy as np
import pytest
import torch

from benchmarks import BENCHMARKS, loss, run
from benchmarks.decode import KEYPOINT_ORDER, is_tied, make_scene
from benchmarks.report import format_head, format_row
from benchmarks.timing import Row, interleave
from mmpose_attn.codecs import HigherHRNetCodec
from tests.helpers import ROOT


def test_ratio_is_of_medians():
    row = Row('decode', [1, 90, 6], [2, 50, 1])
    assert row.medians == (6, 2) and row.ratio == 3
    assert '6.00' in format_row(row) and '3.0x' in format_row(row)
    line = format_row(row, markdown=True)
    assert line == '| decode | 6.00 | 2.00 | 3.0x |  |'
    assert format_head(True).splitlines()[0].count('|') == line.count('|')


def test_calls_alternate_after_one_of_each():
    calls = []
    theirs, ours = interleave(lambda: calls.append('a'), lambda: calls.append('b'), 3)
    assert ''.join(calls) == 'ab' + 'ab' + 'ba' + 'ab' and len(theirs) == len(ours) == 3


def test_overhead_is_that_of_pairs():
    row = Row('slower and slower', theirs=(1.0, 2.0, 4.0), ours=(1.5, 2.5, 5.0))
    assert row.overhead == pytest.approx(0.25) and row.ratio == pytest.approx(2 / 2.5)


@pytest.mark.parametrize('part', BENCHMARKS)
def test_every_part_runs(part, mmpose_scope):
    rows = list(run((part,), quick=True, repeat=2))
    assert rows
    for row in rows:
        assert (
            row.name.startswith({'loss': 'grouping', 'attention': 'HRNet'}.get(part, part))
            and row.note
        )
        assert len(row.theirs) == len(row.ours) >= 2
        assert row.ratio == pytest.approx(np.median(row.theirs) / np.median(row.ours))


def test_unknown_part_is_an_error():
    with pytest.raises(ValueError, match=r"unknown parts \['encoding'\]; there are .*'encode'"):
        next(run(('encoding',)))


def test_different_results_are_an_error(monkeypatch):
    decode = HigherHRNetCodec.batch_decode

    def shifted(self, *maps):
        keypoints, *scores = decode(self, *maps)
        return [k + 0.01 for k in keypoints], *scores

    monkeypatch.setattr(HigherHRNetCodec, 'batch_decode', shifted)
    with pytest.raises(RuntimeError, match='1 people differs from MMPose by 0.01 px'):
        list(run(('decode',), quick=True))

    forward = loss.BatchedAssociativeEmbeddingLoss.forward
    monkeypatch.setattr(
        loss.BatchedAssociativeEmbeddingLoss,
        'forward',
        lambda *args: tuple(2 * part for part in forward(*args)),
    )
    with pytest.raises(RuntimeError, match='gradients of the losses differ'):
        list(run(('loss',), quick=True))


def test_scene():
    heat, tags = make_scene(3, 128, seed=5)
    assert heat.shape == (1, 17, 128, 128) and tags.shape == (1, 34, 128, 128)
    assert heat.dtype == tags.dtype == torch.float32
    for again, maps in zip(make_scene(3, 128, seed=5), (heat, tags), strict=True):
        assert torch.equal(again, maps)
    assert not torch.equal(make_scene(3, 128, seed=6)[0], heat)
    codec = HigherHRNetCodec(
        (512, 512),
        (512, 512),
        decode_keypoint_order=list(KEYPOINT_ORDER),
        decode_fill='none',
    )
    found = []
    for seed in range(5):
        scores = codec.batch_decode(*make_scene(5, 512, seed))[1][0]
        assert len(scores) == 5
        found.append((scores > 0).mean())
    assert 0.7 < np.mean(found) < 0.9  # the rest is missing


def test_ties():
    codec = HigherHRNetCodec((64, 64), (64, 64), decode_keypoint_order=[0, 1])
    vals = np.full((2, 2), 0.5, dtype=np.float32)
    locs = np.zeros((2, 2, 2))
    # both candidates of the second joint are 0.2 or 0.3 away from both groups
    near = np.array([[[0.0], [0.1]], [[0.3], [-0.2]]], dtype=np.float32)
    far = np.array([[[0.0], [5.0]], [[5.1], [0.1]]], dtype=np.float32)
    assert is_tied(vals, near, locs, codec)
    assert not is_tied(vals, far, locs, codec)
    vals[1] = 0
    assert not is_tied(vals, near, locs, codec)


def test_command(monkeypatch, capsys):
    def bench(*arguments):
        monkeypatch.setattr(sys, 'argv', ['bench.py', '--only', 'encode', *arguments])
        runpy.run_path(str(ROOT / 'tools' / 'bench.py'), run_name='__main__')
        return capsys.readouterr().out.strip().splitlines()

    threads = torch.get_num_threads()
    try:
        about, _, head, line, row = bench('--quick', '--threads', '1', '--markdown')
    finally:
        torch.set_num_threads(threads)
    assert '1 threads (torch)' in about and 'MMPose 1.' in about
    assert 'ratio' in head and line.startswith('|---') and row.startswith('| encode 2 people')
    with pytest.raises(SystemExit, match='2'):
        bench('--repeat', '0')
    assert '--repeat must be positive' in capsys.readouterr().err
