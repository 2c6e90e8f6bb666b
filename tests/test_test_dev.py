"""A file for COCO's test-dev server, whose images have no public annotations."""

import json

import pytest

from tests.data_helpers import VAL, build_runner, edit_json, make_topdown_data, write_config
from tests.helpers import ROOT

pytestmark = pytest.mark.usefixtures('mmpose_scope')
NAME = 'hrnet_w32_coco_256x192'
IMAGES = 'annotations/image_info_test-dev2017.json'


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """COCO's layout with test images, of which it is only said that they exist."""
    root = make_topdown_data(tmp_path / 'data')['COCO_ROOT']
    monkeypatch.setenv('COCO_ROOT', str(root))
    (root / 'test2017').symlink_to(root / 'val2017')
    (root / IMAGES).write_bytes((root / VAL).read_bytes())
    edit_json(root / IMAGES, lambda file: file.pop('annotations'))
    return root


@pytest.mark.parametrize('name', [NAME, 'higherhrnet_w32_coco_512'])
def test_format_only_writes_what_the_server_reads(name, coco, tmp_path):
    options = {
        'model.backbone.init_cfg': None,
        'test_dataloader.dataset.ann_file': IMAGES,
        'test_dataloader.dataset.data_prefix.img': 'test2017/',
        'test_evaluator.ann_file': str(coco / IMAGES),
        'test_evaluator.format_only': True,
        'test_evaluator.outfile_prefix': str(tmp_path / 'hrnet'),
    }
    boxes = coco / 'person_detection_results/COCO_val2017_detections_AP_H_56_person.json'
    if name == NAME:
        options['test_dataloader.dataset.bbox_file'] = str(boxes)
    config = write_config(tmp_path, base=ROOT / 'configs' / f'{name}.py')
    assert build_runner(config, tmp_path / 'work', **options).test() == {}

    images = {image['id'] for image in json.loads((coco / IMAGES).read_text())['images']}
    found = json.loads((tmp_path / 'hrnet.keypoints.json').read_text())
    # an untrained HigherHRNet may see nobody
    assert name != NAME or len(found) == len(json.loads(boxes.read_text()))
    for person in found:
        assert person['image_id'] in images and person['category_id'] == 1
        assert len(person['keypoints']) == 51 and person['score'] >= 0
