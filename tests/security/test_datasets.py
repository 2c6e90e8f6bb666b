"""Annotation and detection files that want more than to be read."""

import json
import pickle
import shutil

import pytest

from mmpose_attn.datasets import CheckedCocoDataset
from mmpose_attn.datasets.convert import convert_dataset
from tests.data_helpers import VAL, make_detections, make_small_dataset

pytestmark = pytest.mark.usefixtures('mmpose_scope')


@pytest.fixture(scope='module')
def synthetic(tmp_path_factory):
    return make_small_dataset(tmp_path_factory.mktemp('data') / 'coco', 1, 2)


def build(root, ann_file, **kwargs):
    return CheckedCocoDataset(
        data_root=str(root),
        ann_file=str(ann_file),
        data_prefix=dict(img='val2017'),
        test_mode=True,
        serialize_data=False,
        **kwargs,
    )


@pytest.mark.parametrize('indices', [None, 1])
@pytest.mark.parametrize(
    'name',
    ['../val2017/{}', '../../secret.jpg', '{folder}/{}', '..%2fval2017%2f{}', '..\\val2017\\{}'],
)
def test_names_that_leave_the_folder_of_images(synthetic, tmp_path, name, indices):
    contents = json.loads((synthetic / VAL).read_text())
    image = contents['images'][0]
    folder = synthetic / 'val2017'
    (synthetic.parent / 'secret.jpg').touch()
    image['file_name'] = name.replace('{folder}', str(folder)).replace('{}', image['file_name'])
    path = tmp_path / 'ann.json'
    path.write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=r'ann\.json: image \d+: .* leads out of the folder'):
        build(synthetic, path, indices=indices)


class Call:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('suffix', ['.pkl', '.pickle', '.yaml', '.yml', '.json'])
def test_detections_of_other_formats_are_not_run(synthetic, tmp_path, suffix):
    # MMEngine reads a file as what its name says: pickles, and YAML with Python objects
    path, created = tmp_path / f'boxes{suffix}', tmp_path / 'created'
    if 'y' in suffix:
        path.write_text(f"- !!python/object/apply:builtins.open ['{created}', 'w']")
    else:
        path.write_bytes(pickle.dumps([Call(created)]))
    with pytest.raises(ValueError, match=rf'boxes\{suffix} is not valid JSON'):
        build(synthetic, synthetic / VAL, bbox_file=str(path), data_mode='topdown')
    assert not created.exists()


def test_good_detections(synthetic, tmp_path):
    path = make_detections(synthetic / VAL, tmp_path / 'found' / 'boxes.json')
    assert len(build(synthetic, synthetic / VAL, bbox_file=str(path), data_mode='topdown'))


# ------------------------------------------------------------------------ conversion
@pytest.mark.parametrize('name', ['../other/{}', '{folder}/{}', '..\\other\\{}'])
def test_converted_pictures_do_not_come_from_elsewhere(synthetic, tmp_path, name):
    contents = json.loads((synthetic / VAL).read_text())
    image = contents['images'][0]
    shutil.copytree(synthetic / 'val2017', tmp_path / 'images')
    shutil.copytree(synthetic / 'val2017', tmp_path / 'other')
    other = str(tmp_path / 'other')
    image['file_name'] = name.replace('{folder}', other).replace('{}', image['file_name'])
    source = tmp_path / 'ann.json'
    source.write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=r'ann\.json: image .* leads out of the folder'):
        convert_dataset([source], tmp_path / 'out', images=tmp_path / 'images', pictures='copy')
    assert not (tmp_path / 'out').exists()


def test_labelme_s_pictures_are_beside_its_files(synthetic, tmp_path):
    picture = next((synthetic / 'val2017').iterdir())
    for place in ('set/files', 'set/images', 'secret'):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(picture, tmp_path / place / 'a.jpg')
    box = dict(label='person', shape_type='rectangle', points=[[5, 5], [60, 70]])
    contents = dict(imageWidth=96, imageHeight=80, shapes=[box])

    def convert(stated, out):
        file = tmp_path / 'set' / 'files' / 'a.json'
        file.write_text(json.dumps(dict(contents, imagePath=stated)))
        return convert_dataset([file.parent], tmp_path / out, keypoints=['nose'])

    assert '1 pictures' in convert('..\\images\\a.jpg', 'beside')
    with pytest.raises(ValueError, match=r'a\.json: imagePath .* leads far out of'):
        convert('../../secret/a.jpg', 'far')


def test_exports_of_other_shapes_are_one_error(tmp_path):
    source = tmp_path / 'ann.json'
    for odd in (dict(images=[1]), dict(images=[dict(id=[1])]), dict(categories=[None, 1])):
        source.write_text(json.dumps(dict(dict(images=[], annotations=[], categories=[]), **odd)))
        with pytest.raises(ValueError, match=r'ann\.json'):
            convert_dataset([source], tmp_path / 'out', 'coco', images=tmp_path)
