"""The pages of results say what the records beside them hold."""

import runpy
from pathlib import Path

from tests.helpers import ROOT

RESULTS = ROOT / 'docs' / 'results'


def test_de_hrnet_start_is_its_record(capsys, tmp_path):
    script = runpy.run_path(str(RESULTS / 'de_hrnet_start.py'))
    script['table'](RESULTS / 'de_hrnet_start.jsonl', tmp_path / 'plot.png')
    table = capsys.readouterr().out
    assert table.count('\n') > 4 and table in (RESULTS / 'de_hrnet_start.md').read_text()
    assert Path(tmp_path / 'plot.png').stat().st_size > 10_000


def test_de_hrnet_start_trains_what_it_says(no_roots):
    script = runpy.run_path(str(RESULTS / 'de_hrnet_start.py'))
    assert script['STEPS'] * script['BATCH'] == 2400
    configs = ROOT / 'configs' / '_base_' / 'recipes' / 'de_hrnet.py'
    chosen = runpy.run_path(str(configs))['de_hrnet']
    assert chosen.items() <= script['ARMS']['stage_end'].items()
