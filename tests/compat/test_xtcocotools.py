"""The adapter must give the figures of xtcocotools 1.14.3, and clear errors."""

import contextlib
import copy
import importlib.metadata
import json
import pathlib
import re

import numpy as np
import pycocotools.mask as reference_mask
import pytest
import xtcocotools
from xtcocotools import mask
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval, Params

DATA = pathlib.Path(__file__).parents[1] / 'data' / 'parity'
STATS = json.loads((DATA / 'eval_stats.json').read_text())
WHOLE_BODY = json.loads((DATA / 'wholebody.json').read_text())
CUTS = {
    'keypoints_foot': (17, 23),
    'keypoints_face': (23, 91),
    'keypoints_lefthand': (91, 112),
    'keypoints_righthand': (112, 133),
    'keypoints_wholebody': (0, 133),
}


def run(gt, dt, kind='keypoints', sigmas=None, use_area=True):
    evaluation = COCOeval(gt, dt, kind, sigmas, use_area)
    # MMPose sets it before every evaluation.
    evaluation.params.useSegm = None
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.fixture
def gt():
    return COCO(str(DATA / 'eval_gt.json'))


@pytest.fixture
def dt(gt):
    return gt.loadRes(str(DATA / 'eval_dt.json'))


def person(side=100.0, area=5000.0, **fields):
    """One person whose 17 keypoints lie on the diagonal of a square box."""
    points = np.linspace(0, side, 17)
    keypoints = np.stack([points, points, np.full(17, 2)], 1).flatten().tolist()
    return {
        'id': 1,
        'image_id': 1,
        'category_id': 1,
        'iscrowd': 0,
        'bbox': [0.0, 0.0, side, side],
        'area': area,
        'keypoints': keypoints,
        'num_keypoints': 17,
        **fields,
    }


def dataset(*anns, images=(1,), **image_fields):
    return {
        'images': [{'id': i, 'width': 640, 'height': 480, **image_fields} for i in images],
        'categories': [{'id': 1, 'name': 'person'}],
        'annotations': list(anns),
    }


def result(ann, score=0.9, shift=0.0):
    keypoints = np.array(ann['keypoints'], dtype=float).reshape(-1, 3)
    keypoints[:, 0] += shift
    return {
        'image_id': ann['image_id'],
        'category_id': ann['category_id'],
        'keypoints': keypoints.flatten().tolist(),
        'score': score,
    }


# ------------------------------------------------------------------ parity


@pytest.mark.parametrize('key', STATS)
def test_figures_of_xtcocotools(key, gt, dt):
    kind, use_area = key.split('_use_area=')
    stats = run(gt, dt, kind, use_area=use_area == 'True').stats
    assert stats.shape == (len(STATS[key]),)
    np.testing.assert_allclose(stats, STATS[key], rtol=0, atol=1e-12)


@pytest.mark.parametrize('key', WHOLE_BODY['stats'])
def test_figures_of_all_types(key):
    kind, use_area = key.split('_use_area=')
    gt = COCO(ann_data=copy.deepcopy(WHOLE_BODY['gt']))
    dt = gt.loadRes(WHOLE_BODY['boxes' if kind in ('bbox', 'segm') else 'dt'])
    first, last = CUTS.get(kind, (0, 17))
    sigmas = np.array(WHOLE_BODY['sigmas'][first:last])
    # Some results lack the score of a part, which is announced.
    lacking = kind in CUTS
    announced = pytest.warns(UserWarning, match='not found')
    with announced if lacking else contextlib.nullcontext():
        stats = run(gt, dt, kind, sigmas, use_area == 'True').stats
    np.testing.assert_allclose(stats, WHOLE_BODY['stats'][key], rtol=0, atol=1e-12)


def test_the_parity_data_can_tell_the_settings_apart():
    assert len({tuple(v) for v in STATS.values()}) == 4
    by_kind = {k.split('_use')[0]: tuple(v) for k, v in WHOLE_BODY['stats'].items()}
    assert len(set(by_kind.values())) == len(by_kind) - 1  # body is keypoints


# ------------------------------------------------------------------- table


def table(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if '@[' in line]


def test_the_table_of_keypoints(gt, dt, capsys):
    run(gt, dt)
    lines = table(capsys)
    assert len(lines) == 10
    assert lines[0] == (
        ' Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets= 20 ] =  0.364'
    )
    assert lines[8] == (
        ' Average Recall     (AR) @[ IoU=0.50:0.95 | area=medium | maxDets= 20 ] =  0.526'
    )


def test_the_table_of_crowdpose(gt, dt, capsys):
    run(gt, dt, 'keypoints_crowd')
    lines = table(capsys)
    assert len(lines) == 9
    assert lines[-1] == (
        ' Average Precision  (AP) @[ IoU=0.50:0.95 | type=  hard | maxDets= 20 ] = 0.361'
    )


def test_absent_sizes_print_minus_one(capsys):
    gt = COCO(ann_data=dataset(person(area=5000.0)))
    run(gt, gt.loadRes([result(person())]))
    large = [line for line in table(capsys) if 'large' in line]
    assert all(line.endswith('= -1.000') for line in large) and len(large) == 2


# -------------------------------------------------------------- evaluation


def test_perfect_results_score_one(gt):
    people = [a for a in gt.dataset['annotations'] if a['num_keypoints'] and not a['iscrowd']]
    stats = run(gt, gt.loadRes([result(a) for a in people])).stats
    np.testing.assert_allclose(stats, 1)


def test_no_results_score_zero(gt):
    np.testing.assert_array_equal(run(gt, gt.loadRes([])).stats, np.zeros(10))


def test_no_ground_truth_scores_minus_one():
    gt = COCO(ann_data=dataset())
    np.testing.assert_array_equal(run(gt, gt.loadRes([result(person())])).stats, -np.ones(10))


def test_annotation_id_zero_counts():
    gt = COCO(ann_data=dataset(person(id=0)))
    assert run(gt, gt.loadRes([result(person())])).stats[0] == pytest.approx(1)


def test_image_ids_may_be_text():
    gt = COCO(ann_data=dataset(person(image_id='b'), images=('b', 'a')))
    evaluation = run(gt, gt.loadRes([result(person(image_id='b'))]))
    assert evaluation.stats[0] == pytest.approx(1)
    assert evaluation.params.imgIds == ['a', 'b']
    np.testing.assert_allclose(evaluation.ious['b', 1], [[1]])


@pytest.mark.parametrize('use_area, medium, large', [(True, 1, -1), (False, -1, 1)])
def test_size_is_of_the_box_without_area(use_area, medium, large):
    # 0.53 of the box is above 96 x 96 pixels, the annotated area below.
    gt = COCO(ann_data=dataset(person(side=150.0, area=5000.0)))
    stats = run(gt, gt.loadRes([result(person(side=150.0))]), use_area=use_area).stats
    np.testing.assert_allclose(stats[[3, 4, 8, 9]], [medium, large, medium, large])


@pytest.mark.parametrize('use_area', [True, False])
def test_similarity_is_the_published_formula(use_area):
    ann = person(side=150.0, area=5000.0)
    gt = COCO(ann_data=dataset(ann))
    evaluation = run(gt, gt.loadRes([result(ann, shift=7.0)]), use_area=use_area)
    area = 5000.0 if use_area else 0.53 * 150**2
    expected = np.exp(-(7.0**2) / (2 * area * (2 * evaluation.sigmas) ** 2)).mean()
    assert 0.05 < expected < 0.95
    np.testing.assert_allclose(evaluation.ious[1, 1], [[expected]])


def test_results_without_keypoints_do_not_count():
    ann = person()
    nothing = {**result(ann, score=0.99), 'keypoints': [0.0] * 51}
    gt = COCO(ann_data=dataset(ann))
    assert run(gt, gt.loadRes([nothing, result(ann)])).stats[0] == pytest.approx(1)


def test_crowdpose_goes_by_its_own_count():
    # Hidden keypoints, v = 1, are not in CrowdPose's count; COCO counts them.
    gt = COCO(ann_data=dataset(person(num_keypoints=0), crowdIndex=0.5))
    dt = gt.loadRes([result(person())])
    assert run(gt, dt, 'keypoints').stats[0] == pytest.approx(1)
    assert run(gt, dt, 'keypoints_crowd').stats[0] == -1


def test_only_twenty_results_an_image():
    ann = person()
    poor = [result(ann, score=0.9, shift=1e4) for _ in range(20)]
    good = result(ann, score=0.8)
    gt = COCO(ann_data=dataset(ann))
    assert run(gt, gt.loadRes([*poor, good])).stats[5] == 0
    assert run(gt, gt.loadRes([*poor[1:], good])).stats[5] == 1


def test_evaluation_leaves_its_input_alone(gt):
    raw = json.loads((DATA / 'eval_dt.json').read_text())
    before = copy.deepcopy(raw), copy.deepcopy(gt.dataset)
    run(gt, gt.loadRes(raw), 'keypoints_crowd', use_area=False)
    assert (raw, gt.dataset) == before


def test_images_can_be_selected(gt, dt):
    evaluation = COCOeval(gt, dt)
    evaluation.params.imgIds = evaluation.params.imgIds[:40]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    kept = evaluation.params.imgIds
    part = COCO(
        ann_data={
            'images': gt.loadImgs(kept),
            'categories': gt.dataset['categories'],
            'annotations': gt.loadAnns(gt.getAnnIds(imgIds=kept)),
        }
    )
    raw = json.loads((DATA / 'eval_dt.json').read_text())
    results = part.loadRes([r for r in raw if r['image_id'] in kept])
    np.testing.assert_allclose(evaluation.stats, run(part, results).stats, atol=1e-12)
    assert abs(evaluation.stats[0] - STATS['keypoints_use_area=True'][0]) > 0.001


def test_crowdpose_keeps_the_result_of_all_images(gt, dt):
    evaluation = run(gt, dt, 'keypoints_crowd')
    assert len(evaluation.params.imgIds) == len(gt.imgs)
    assert evaluation.eval['params'].imgIds == evaluation.params.imgIds
    assert evaluation.eval['precision'].shape == (10, 101, 1, 3, 1)
    precision = evaluation.eval['precision'][..., 0, 0]
    assert precision[precision > -1].mean() == pytest.approx(evaluation.stats[0])
    evaluation.summarize()
    np.testing.assert_allclose(evaluation.stats, STATS['keypoints_crowd_use_area=True'], atol=1e-12)


# ------------------------------------------------------------------ errors


def test_missing_area_names_file_and_remedy(tmp_path):
    ann = person(id=7)
    del ann['area']
    path = tmp_path / 'no_area.json'
    path.write_text(json.dumps(dataset(ann)))
    gt = COCO(str(path))
    dt = gt.loadRes([result(ann)])
    with pytest.raises(KeyError, match=r'no_area\.json.*7.*use_area=False'):
        COCOeval(gt, dt).evaluate()
    assert run(gt, dt, use_area=False).stats[0] == pytest.approx(1)


@pytest.mark.parametrize(
    'kind, field',
    [
        ('keypoints', 'keypoints'),
        ('keypoints', 'bbox'),
        ('keypoints_crowd', 'num_keypoints'),
        ('keypoints_face', 'face_kpts'),
    ],
)
def test_missing_fields_name_the_file(tmp_path, kind, field):
    ann = person()
    ann.pop(field, None)
    path = tmp_path / 'lacking.json'
    path.write_text(json.dumps(dataset(ann)))
    gt = COCO(str(path))
    with pytest.raises(KeyError, match=rf'lacking\.json.*{field}'):
        COCOeval(gt, gt.loadRes([result(person())]), kind).evaluate()


def test_missing_crowd_index_names_the_file(tmp_path):
    path = tmp_path / 'not_crowdpose.json'
    path.write_text(json.dumps(dataset(person())))
    gt = COCO(str(path))
    with pytest.raises(KeyError, match=r'not_crowdpose\.json.*crowdIndex'):
        run(gt, gt.loadRes([result(person())]), 'keypoints_crowd')


def test_missing_score_names_the_file(tmp_path):
    path = tmp_path / 'scoreless.json'
    raw = result(person())
    del raw['score']
    path.write_text(json.dumps([raw]))
    gt = COCO(ann_data=dataset(person()))
    with pytest.raises(KeyError, match=r'scoreless\.json.*score'):
        COCOeval(gt, gt.loadRes(str(path))).evaluate()


def test_number_of_keypoints_must_fit_the_sigmas(gt, dt):
    with pytest.raises(ValueError, match=r'eval_gt\.json.*17 keypoints.*14 sigmas'):
        COCOeval(gt, dt, 'keypoints', np.full(14, 0.05)).evaluate()


def test_unknown_type_lists_the_known(gt, dt):
    with pytest.raises(ValueError, match=r'keypoints_tail.*keypoints_crowd'):
        COCOeval(gt, dt, 'keypoints_tail')


def test_keypoints_need_categories(gt, dt):
    evaluation = COCOeval(gt, dt)
    evaluation.params.useCats = 0
    with pytest.raises(ValueError, match='useCats'):
        evaluation.evaluate()


def test_steps_must_be_in_order(gt, dt):
    evaluation = COCOeval(gt, dt)
    with pytest.raises(RuntimeError, match='evaluate'):
        evaluation.accumulate()
    with pytest.raises(RuntimeError, match='accumulate'):
        evaluation.summarize()


# -------------------------------------------------------------------- COCO


def test_files_are_remembered():
    path, results = str(DATA / 'eval_gt.json'), str(DATA / 'eval_dt.json')
    gt = COCO(path)
    assert gt.anno_file == [path]
    gt.loadRes(results)
    gt.loadRes([])
    assert gt.anno_file == [path, results]
    assert COCOeval(gt, gt.loadRes([])).anno_file is gt.anno_file


def test_annotations_may_be_in_memory():
    data = dataset(person())
    gt = COCO('does_not_exist.json', ann_data=data)
    assert gt.dataset is data and list(gt.anns) == [1]
    with pytest.raises(TypeError, match='list'):
        COCO(ann_data=[])


def test_results_may_be_in_memory():
    gt = COCO(ann_data=dataset(person()))
    dt = gt.loadRes('does_not_exist.json', resData=[result(person())])
    assert dt.anns[1]['area'] == 100.0**2 and dt.anns[1]['bbox'] == [0, 0, 100, 100]
    rows = gt.loadRes(np.array([[1, 5, 6, 20, 30, 0.5, 1]]))
    assert rows.anns[1]['bbox'] == [5, 6, 20, 30] and rows.anns[1]['area'] == 600


def test_test_index_keeps_keypoints():
    ann = person()
    gt = COCO(ann_data=dataset(copy.deepcopy(ann)), test_index=[2, 0])
    expected = ann['keypoints'][6:9] + ann['keypoints'][:3]
    assert gt.anns[1]['keypoints'] == expected
    results = [{**result(ann), 'keypoints': expected}]
    assert run(gt, gt.loadRes(results), sigmas=[0.1, 0.1]).stats[0] == pytest.approx(1)


def test_missing_iscrowd_is_no_crowd():
    ann = person()
    del ann['iscrowd']
    gt = COCO(ann_data=dataset(ann))
    assert gt.getAnnIds(iscrowd=False) == [1] and gt.getAnnIds(iscrowd=True) == []


def test_queries():
    anns = [person(id=i, image_id=image) for i, image in ((3, 2), (1, 1), (2, 2))]
    anns[0]['area'] = 10.0
    gt = COCO(ann_data=dataset(*anns, images=(1, 2)))
    assert gt.getAnnIds() == [3, 1, 2]
    assert gt.getAnnIds(imgIds=[2, 1]) == [3, 2, 1]
    assert gt.getAnnIds(imgIds=np.int64(1)) == [1]
    assert gt.getAnnIds(imgIds=9) == [] and gt.getAnnIds(catIds=9) == []
    assert gt.getAnnIds(areaRng=[0, 100]) == [3]
    assert gt.loadAnns(2) == [anns[2]] and gt.loadAnns([1, 3]) == [anns[1], anns[0]]
    assert gt.loadImgs(2)[0]['id'] == 2
    assert gt.loadCats(gt.getCatIds()) == gt.dataset['categories']
    assert gt.getImgIds(catIds=1) == [1, 2]
    assert 9 not in gt.imgToAnns


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r'nowhere\.json'):
        COCO('nowhere.json')
    with pytest.raises(FileNotFoundError, match=r'nowhere\.json'):
        COCO(ann_data=dataset()).loadRes('nowhere.json')


@pytest.mark.parametrize('text, message', [('{', 'not valid JSON'), ('[]', 'holds a list')])
def test_a_broken_file_is_named(tmp_path, text, message):
    path = tmp_path / 'broken.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=rf'broken\.json.*{message}'):
        COCO(str(path))


def test_foreign_results_are_named(tmp_path):
    path = tmp_path / 'foreign.json'
    path.write_text(json.dumps([{**result(person()), 'image_id': 99}]))
    with pytest.raises(ValueError, match=r'foreign\.json.*99.*annotations in memory'):
        COCO(ann_data=dataset(person())).loadRes(str(path))
    with pytest.raises(ValueError, match=r'eval_gt\.json holds a dict'):
        COCO(ann_data=dataset()).loadRes(str(DATA / 'eval_gt.json'))


def test_params_are_cocos():
    params = Params('keypoints')
    assert params.maxDets == [20] and params.areaRngLbl == ['all', 'medium', 'large']
    assert params.areaRng == [[0, 1e10], [1024, 9216], [9216, 1e10]]
    assert params.iouThrs.shape == (10,) and params.recThrs.shape == (101,)
    assert Params('bbox').areaRngLbl == ['all', 'small', 'medium', 'large']


# ------------------------------------------------------------------- masks


@pytest.fixture
def masks():
    bits = np.random.default_rng(0).random((20, 30, 3)) > 0.6
    return np.asfortranarray(bits.astype(np.uint8))


def test_masks_as_in_pycocotools(masks):
    rles = reference_mask.encode(masks)
    assert mask.encode(masks) == rles
    assert mask.encode(masks[:, :, 0]) == rles[0]
    np.testing.assert_array_equal(mask.decode(rles), masks)
    np.testing.assert_array_equal(mask.decode(rles[1]), masks[:, :, 1])
    assert mask.area(rles).tolist() == masks.sum((0, 1)).tolist()
    assert mask.area(rles).dtype == reference_mask.area(rles).dtype
    assert mask.area(rles[0]) == reference_mask.area(rles[0])
    np.testing.assert_array_equal(mask.toBbox(rles), reference_mask.toBbox(rles))
    np.testing.assert_array_equal(mask.toBbox(rles[2]), reference_mask.toBbox(rles[2]))
    for intersect in (0, 1):
        assert mask.merge(rles, intersect) == reference_mask.merge(rles, intersect)


def test_overlaps_as_in_pycocotools(masks):
    rles = reference_mask.encode(masks)
    boxes = np.random.default_rng(1).random((4, 4)) * 20
    for args in ((rles, rles, [0, 1, 0]), (boxes, boxes[:2], [0, 1])):
        np.testing.assert_array_equal(mask.iou(*args), reference_mask.iou(*args))


@pytest.mark.parametrize(
    'objects',
    [
        [[1.0, 1, 10, 1, 10, 12, 2, 9], [3.0, 3, 8, 3, 8, 9]],
        np.array([[1.0, 2, 5, 6]]),
        {'size': [20, 30], 'counts': [100, 50, 450]},
        [{'size': [20, 30], 'counts': [100, 50, 450]}],
    ],
    ids=['polygons', 'boxes', 'counts', 'list of counts'],
)
def test_objects_as_in_pycocotools(objects):
    assert mask.frPyObjects(objects, 20, 30) == reference_mask.frPyObjects(objects, 20, 30)


def test_annotations_become_masks():
    ann = person(segmentation=[[10.0, 10, 30, 10, 30, 40, 10, 40]])
    gt = COCO(ann_data=dataset(ann))
    pixels = gt.annToMask(ann)
    assert pixels.shape == (480, 640) and pixels.sum() == mask.area(gt.annToRLE(ann)) == 600


# ------------------------------------------------------------------ MMPose


def predictions(anns, keypoints):
    """MMPose data samples that predict the annotations exactly."""
    samples = []
    for ann in anns:
        points = np.array(keypoints(ann), dtype=float).reshape(1, -1, 3)
        x, y, w, h = ann['bbox']
        instances = {
            'keypoints': points[..., :2],
            'keypoint_scores': np.ones(points.shape[:2]),
            'bbox_scores': np.ones(1),
        }
        samples.append(
            {
                'id': ann['id'],
                'img_id': ann['image_id'],
                'category_id': 1,
                'ori_shape': (480, 640),
                'gt_instances': {
                    'bbox_scales': np.array([[w, h]]),
                    'bbox_scores': np.ones(1),
                    'bboxes': np.array([[x, y, x + w, y + h]]),
                },
                'pred_instances': instances,
            }
        )
    return samples


@pytest.mark.parametrize('kind, names', [('keypoints', 10), ('keypoints_crowd', 9)])
def test_coco_metric_of_mmpose(kind, names, gt):
    from mmpose.datasets.datasets.utils import parse_pose_metainfo
    from mmpose.evaluation.metrics import CocoMetric

    anns = [a for a in gt.dataset['annotations'] if a['num_keypoints'] and not a['iscrowd']]
    metric = CocoMetric(ann_file=str(DATA / 'eval_gt.json'), iou_type=kind, nms_mode='none')
    metric.dataset_meta = parse_pose_metainfo({'from_file': 'configs/_base_/datasets/coco.py'})
    for sample in predictions(anns, lambda ann: ann['keypoints']):
        metric.process([{}], [sample])
    figures = metric.evaluate(size=len(anns))
    assert len(figures) == names
    for name, value in figures.items():
        assert value == pytest.approx(1), name


def test_whole_body_metric_of_mmpose(tmp_path):
    from mmpose.datasets.datasets.utils import parse_pose_metainfo
    from mmpose.evaluation.metrics import CocoWholeBodyMetric

    fields = ['keypoints', 'foot_kpts', 'face_kpts', 'lefthand_kpts', 'righthand_kpts']
    data = copy.deepcopy(WHOLE_BODY['gt'])
    data['annotations'] = [
        {**ann, 'category_id': 1, 'iscrowd': 0}
        for ann in data['annotations']
        if any(v for name in fields for v in ann[name][2::3])
    ]
    path = tmp_path / 'wholebody.json'
    path.write_text(json.dumps(data))
    metric = CocoWholeBodyMetric(ann_file=str(path), nms_mode='none')
    metric.dataset_meta = parse_pose_metainfo(
        {'from_file': 'configs/_base_/datasets/coco_wholebody.py'}
    )
    anns = data['annotations']
    samples = predictions(anns, lambda ann: [v for name in fields for v in ann[name]])
    with pytest.warns(UserWarning, match='foot_score'):
        for sample in samples:
            metric.process([{}], [sample])
        figures = metric.evaluate(size=len(anns))
    assert figures['coco-wholebody/AP'] == pytest.approx(1)


# ---------------------------------------------------------------- metadata


def test_metadata():
    metadata = importlib.metadata.metadata('xtcocotools')
    assert metadata['Version'] == xtcocotools.__version__
    assert 'adapter' in metadata['Summary']
    assert 'never install it beside the real xtcocotools' in metadata['Summary']
    requirements = importlib.metadata.requires('xtcocotools')
    names = {re.match(r'[\w-]+', line).group() for line in requirements}
    assert names == {'faster-coco-eval', 'numpy'}
