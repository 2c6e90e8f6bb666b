"""The metafiles: every config once, published figures only, readable by mim and the inferencer."""

import re

import numpy as np
import pytest
import torch
import yaml
from mim.commands.search import convert2df, filter_by_training_datasets
from mmengine import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from mmpose.apis import MMPoseInferencer
from mmpose.apis.inferencers import Pose2DInferencer
from mmpose.registry import DATASETS, MODELS
from modelindex.load_model_index import load

from tests.helpers import ROOT
from tests.inference_helpers import save_weights

INDEX = ROOT / 'model-index.yml'
METAFILES = [ROOT / name for name in yaml.safe_load(INDEX.read_text())['Import']]
CONFIGS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
MODELS_ = [model for path in METAFILES for model in yaml.safe_load(path.read_text())['Models']]
every_model = pytest.mark.parametrize('model', MODELS_, ids=lambda model: model['Name'])
HOST = 'https://download.openmmlab.com/mmpose/'
WEIGHTS = r'(bottom_up|top_down/(lite)?hrnet|v1/body_2d_keypoint/topdown_heatmap/coco)/[\w-]+\.pth'
# what a word in a config's name stands for
PARTS = {
    'Squeeze-and-Excitation': 'se',
    'ECA': 'eca',
    'CBAM': 'cbam',
    'CAM/SAM': 'camsam',
    'Polarized Self-Attention': 'psa',
    'UDP': 'udp',
    'DARK': 'dark',
    'DySample': 'dehrnet',
    'Detail Enhancement': 'dehrnet',
    'CSP-PAN': 'csppan',
    'Dite-HRNet': 'dite',
    'Lite-HRNet': 'litehrnet',
}
COLLECTIONS = {
    'hrnet': 'HRNet',
    'dehrnet': 'DE-HRNet',
    'udp': 'UDP',
    'dark': 'DARK',
    'psa': 'PSA',
    'camsam': 'HRNet-CAM-SAM',
    'dite': 'Dite-HRNet',
    'litehrnet': 'Lite-HRNet',
}


def aliases(model):
    alias = model.get('Alias', [])
    return [alias] if isinstance(alias, str) else alias


def test_every_config_has_one_entry_and_every_metafile_is_imported():
    assert sorted(model['Name'] for model in MODELS_) == CONFIGS
    assert set(METAFILES) == set((ROOT / 'configs').rglob('*.yml'))


def test_names_are_unique_and_lower_case():
    # mim search lowers the query but not the names; the inferencer takes the first that fits
    names = [name for model in MODELS_ for name in (model['Name'], *aliases(model))]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and ' ' not in name for name in names)


@pytest.mark.parametrize('path', [INDEX, *METAFILES], ids=lambda path: path.name)
def test_no_comments(path):
    text = path.read_text()
    assert not re.search(r'(^|\s)#', text, re.MULTILINE)
    # a colon or a hash inside an unquoted text would have cut it
    assert yaml.safe_load(text)


@every_model
def test_entry(model):
    assert model['Config'] == f'configs/{model["Name"]}.py' and (ROOT / model['Config']).is_file()
    metadata, words = model['Metadata'], model['Name'].split('_')
    data = {name.lower(): name for name in ('COCO', 'CrowdPose', 'LSPET', 'MPII', 'Synthetic')}
    assert metadata['Training Data'] in [data[w] for w in words if w in data]
    for part, word in PARTS.items():
        assert (part in metadata['Architecture']) == (word in words), part
    named = [name for word, name in COLLECTIONS.items() if word in words]
    assert model['In Collection'] == (named or ['HigherHRNet'])[-1]
    # MMEngine asks for the key even where the user brings weights
    assert 'Weights' in model
    if model['Weights']:
        assert re.fullmatch(re.escape(HOST) + WEIGHTS, model['Weights'])


@every_model
def test_figures_are_published_and_say_where(model):
    for result in model.get('Results', []):
        assert len(result['Published From']) > 20
        assert result['Task'] == 'Body 2D Keypoint'
        data = model['Metadata']['Training Data']
        # test-dev has no public annotations: its figures compare with each other alone
        assert result['Dataset'] in ([data, 'COCO test-dev2017'] if data == 'COCO' else [data])
        assert result['Metrics'] and all(0.2 < v < 1 for v in result['Metrics'].values())
    if model['Weights']:
        # of several the last counts for mim: it has to belong to the weights
        assert model['Results'][-1]['Published From'].endswith('the weights of this entry)')


@every_model
def test_parameters_are_the_models(model, mmpose_scope):
    if 'Parameters' not in model['Metadata']:
        assert model['Name'].startswith('demo_')
        return
    config = Config.fromfile(ROOT / model['Config'])
    with torch.device('meta'):
        built = MODELS.build(config.model)
    assert sum(p.numel() for p in built.parameters()) == model['Metadata']['Parameters']


def test_mim_reads_the_index():
    index = load(str(INDEX))
    assert index.check(silent=True) == []
    table = convert2df(index)
    assert sorted(table.index) == CONFIGS
    assert table.loc['higherhrnet_w32_coco_512', 'coco/ap'] == 0.677
    # of the networks trained on COCO alone
    test_dev = table['coco test-dev2017/ap'].dropna()
    assert test_dev.to_dict() == dict(
        hrnet_w32_coco_384x288=0.749,
        hrnet_w48_coco_384x288=0.755,
        hrnet_dark_w48_coco_384x288=0.762,
        dehrnet_w32_coco_384x288=0.756,
    )
    crowdpose = filter_by_training_datasets(table, ['crowdpose'])
    assert sorted(crowdpose.index) == [name for name in CONFIGS if 'crowdpose' in name]


@every_model
def test_inferencer_finds_names_and_aliases(model, monkeypatch):
    monkeypatch.setattr(Pose2DInferencer, '_get_models_from_metafile', lambda _: iter(MODELS_))
    inferencer = object.__new__(Pose2DInferencer)
    inferencer.scope = 'mmpose_attn'
    assert aliases(model)
    for name in (model['Name'], *aliases(model)):
        config, weights = inferencer._load_model_from_metafile(name)
        assert config.filename.endswith(model['Config']) and weights == model['Weights']
        # what the inferencer asks of a config
        assert config.data_mode in ('topdown', 'bottomup')
        assert config.data_mode == 'bottomup' or DATASETS.get(config.dataset_type)


def test_inferencer_reads_the_index():
    names = [model['Name'] for model in Pose2DInferencer._get_models_from_metafile(str(ROOT))]
    assert names == [model['Name'] for model in MODELS_]
    assert Pose2DInferencer._get_repo_or_mim_dir('mmpose_attn') == str(ROOT)


@pytest.mark.slow
@pytest.mark.parametrize('given', [True, False])
def test_inferencer_by_alias(given, tmp_path, mmpose_scope):
    torch.manual_seed(0)
    weights = {}
    if given:
        config = Config.fromfile(ROOT / 'configs' / 'higherhrnet_se_w32_coco_512.py')
        torch.save(MODELS.build(config.model).state_dict(), tmp_path / 'weights.pth')
        weights = dict(pose2d_weights=str(tmp_path / 'weights.pth'))
    inferencer = MMPoseInferencer(
        pose2d='higherhrnet-se_w32', scope='mmpose_attn', device='cpu', **weights
    )
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    result = next(inferencer(image, vis_out_dir=str(tmp_path / 'out'), kpt_thr=-1.0))
    assert result['predictions'][0] and len(list((tmp_path / 'out').iterdir())) == 1


def test_models_build_in_the_inferencers_scope():
    # MMPoseInferencer(..., scope='mmpose_attn') builds from MMEngine's registry in that scope
    config = Config.fromfile(ROOT / 'configs' / 'higherhrnet_w32_coco_512.py')
    with DefaultScope.overwrite_default_scope('mmpose_attn'), torch.device('meta'):
        assert type(ROOT_MODELS.build(config.model)).__name__ == 'HigherHRNetEstimator'


def test_inferencer_takes_a_config_and_weights(tmp_path, mmpose_scope):
    path = ROOT / 'configs' / 'demo_higherhrnet_se_synthetic_256.py'
    weights = tmp_path / 'weights.pth'
    save_weights(path, weights)
    inferencer = MMPoseInferencer(pose2d=str(path), pose2d_weights=str(weights), device='cpu')
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    result = next(inferencer(image, return_vis=True, kpt_thr=-1.0))
    assert len(result['predictions']) == 1
    drawn = result['visualization'][0]
    assert drawn.shape == image.shape and (drawn != image[..., ::-1]).any()
