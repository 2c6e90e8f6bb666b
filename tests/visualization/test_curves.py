"""Loss curves: what is read, the power law, the picture and the command."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest

from mmpose_attn.visualization.curves import Curve, plot_curves, read_curve
from tests.data_helpers import real_data
from tests.helpers import ROOT


@pytest.fixture
def logs(tmp_path):
    """MMEngine's log, 40 steps of loss 2 / sqrt(step), and a table, 3 epochs of loss 1 / epoch."""
    lines = [dict(loss=2 / np.sqrt(step), lr=1.0, step=step, iter=step) for step in range(1, 41)]
    lines.insert(7, dict(PCK=0.5, step=1))
    scalars, table = tmp_path / 'scalars.json', tmp_path / 'table.json'
    scalars.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    epochs = [dict(epoch=epoch, loss=1 / epoch) for epoch in (1, 2, 3)]
    table.write_text(json.dumps(dict(train=epochs, val=[dict(epoch=1, AP=0.1)])))
    return scalars, table


def test_read(logs):
    ours, theirs = (read_curve(path) for path in logs)
    assert len(ours.steps) == ours.length == 40 and ours.losses[3] == 1
    assert theirs.steps.tolist() == [1, 2, 3] and theirs.losses[-1] == 1 / 3
    np.testing.assert_allclose(ours.power_law(0.1), (-0.5, 1.0))
    np.testing.assert_allclose(theirs.power_law(1 / 3), (-1, 1))
    longer = read_curve(logs[1], 12)
    assert longer.fractions.tolist() == [1 / 12, 1 / 6, 1 / 4]
    assert longer.until(0.2).steps.tolist() == [1, 2]


@pytest.mark.parametrize(
    'text', ['', 'loss: 1', '[1, 2]', '{"train": [{"loss": 1}]}', '{"loss": 1}']
)
def test_not_a_log(tmp_path, text):
    path = tmp_path / 'odd.json'
    path.write_text(text)
    with pytest.raises(ValueError, match='odd.json: (neither|0 losses)'):
        read_curve(path)


def test_plot(tmp_path):
    steps = np.arange(1.0, 101)
    curves = {str(power): Curve(steps, steps**-power, 100) for power in (0.1, 0.3)}
    plot_curves(curves, tmp_path / 'plot.png')
    picture = cv2.imread(str(tmp_path / 'plot.png'))
    assert picture.shape[1] > picture.shape[0] > 200
    # both of matplotlib's first two colours
    for color in ((180, 119, 31), (14, 127, 255)):
        assert (np.abs(picture.astype(int) - color).max(-1) < 8).sum() > 100
    with pytest.raises(ValueError, match='fewer than two losses behind 0.5'):
        plot_curves({'': Curve(steps[:2], steps[:2], 100)}, tmp_path / 'no.png', 0.5)


def test_command(logs, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['plot_log.py', *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / 'plot_log.py'), run_name='__main__')
        return capsys.readouterr().out.splitlines()

    out = tmp_path / 'out.png'
    lines = run(*logs, '--names', 'a', 'b', '--lengths', 80, 6, '--end', 0.4, '--out', out)
    assert [line[:2] for line in lines] == ['a:', 'b:'] and lines[0].endswith('slope -0.500')
    assert 'at 0.40' in lines[0] and 'at 0.33' in lines[1] and out.is_file()
    for wrong in ([tmp_path / 'gone.json'], [*logs, '--names', 'a']):
        with pytest.raises(SystemExit, match='2'):
            run(*wrong, '--out', out)
    error = capsys.readouterr().err
    assert 'gone.json' in error and '2 logs, but 1 names' in error


def test_real_log():
    curve = read_curve(real_data('dite18_coco_log.json'), 270)
    assert len(curve.steps) == 162 and -0.2 < curve.power_law(0.1)[0] < 0
