"""Checkpoint safety: own checkpoints load, hostile and broken files do not, shapes must fit."""

import copy
import functools
import http.server
import os
import pickle
import struct
import threading
import zipfile
from collections import OrderedDict
from pathlib import Path

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EMAHook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from mmpose.apis import init_model
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from torch import nn

from mmpose_attn.engine import (
    CorruptCheckpointError,
    UnsafeCheckpointError,
    check_shapes,
    checkpoint,
    install_safe_loading,
    register_shape_check,
)


def load(path):
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger='silent')


# --- A real training checkpoint -------------------------------------------------------------------


class ToyModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.layer(torch.stack(inputs))
        return dict(loss=out.pow(2).mean()) if mode == 'loss' else list(out)


class ToyData(torch.utils.data.Dataset):
    # The arrays of a real dataset's meta information end up in the checkpoint.
    metainfo = parse_pose_metainfo(dict(from_file='configs/_base_/datasets/coco.py'))

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.full((2,), float(index)))


class ToyMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(AP=np.float64(0.25), loss=np.float32(0.5))


def make_runner(work_dir, max_epochs, **kwargs):
    def loader():
        return dict(
            batch_size=2,
            dataset=ToyData(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        )

    return Runner(
        ToyModel(),
        str(work_dir),
        train_dataloader=loader(),
        val_dataloader=loader(),
        val_cfg=dict(),
        val_evaluator=[ToyMetric()],
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, begin=0, end=2, by_epoch=False),
            dict(type='MultiStepLR', milestones=[1]),
        ],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1, save_best='AP', rule='greater'),
            logger=dict(type='LoggerHook', interval=1),
        ),
        custom_hooks=[EMAHook()],
        default_scope='mmpose',
        experiment_name=f'toy_{work_dir.name}_{max_epochs}',
        randomness=dict(seed=0),
        **kwargs,
    )


@pytest.fixture(scope='module')
def training_checkpoint(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('toy')
    make_runner(work_dir, max_epochs=1).train()
    return work_dir / 'epoch_1.pth'


def test_training_checkpoint_needs_exactly_what_is_allowed(training_checkpoint):
    unsafe = torch.serialization.get_unsafe_globals_in_checkpoint
    install_safe_loading()
    assert unsafe(str(training_checkpoint)) == []
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        wanted = set(unsafe(str(training_checkpoint)))
    finally:
        torch.serialization.add_safe_globals(allowed)
    multiarray = np.empty(0).__reduce__()[0].__module__
    assert wanted == {
        'mmengine.logging.history_buffer.HistoryBuffer',
        'builtins.getattr',
        'numpy.ndarray',
        'numpy.dtype',
        f'{multiarray}._reconstruct',
        f'{multiarray}.scalar',
    }


def test_training_checkpoint_loads_unchanged(training_checkpoint):
    checkpoint = load(training_checkpoint)
    trusted = torch.load(training_checkpoint, weights_only=False)
    hub, expected = checkpoint['message_hub'], trusted['message_hub']
    assert hub['log_scalars'].keys() == expected['log_scalars'].keys() != set()
    for name, buffer in hub['log_scalars'].items():
        assert type(buffer) is HistoryBuffer
        np.testing.assert_array_equal(buffer.data, expected['log_scalars'][name].data)
        assert buffer.statistics('mean') == expected['log_scalars'][name].statistics('mean')
    for name, value in checkpoint['meta']['dataset_meta'].items():
        np.testing.assert_equal(value, trusted['meta']['dataset_meta'][name])
    assert hub['runtime_info']['best_score'] == 0.25
    # The allow-list is torch's: a plain torch.load works as well, with the protection on.
    torch.load(training_checkpoint, weights_only=True)


def test_resume_and_load_from(training_checkpoint, tmp_path):
    runner = make_runner(tmp_path, 2, resume=True, load_from=str(training_checkpoint))
    runner.train()
    assert runner.epoch == 2
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 4
    assert load(tmp_path / 'epoch_2.pth')['meta']['iter'] == 4


def test_init_model_with_training_checkpoint(training_checkpoint, tmp_path):
    config = dict(
        default_scope='mmpose',
        model=dict(
            type='TopdownPoseEstimator',
            backbone=dict(type='ResNet', depth=18),
            head=dict(
                type='HeatmapHead',
                in_channels=512,
                out_channels=17,
                deconv_out_channels=None,
                loss=dict(type='KeypointMSELoss'),
                decoder=dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(2, 2), sigma=2),
            ),
        ),
        test_dataloader=dict(dataset=dict(type='CocoDataset')),
    )
    from mmengine import Config

    model = init_model(Config(copy.deepcopy(config)), device='cpu')
    checkpoint = torch.load(training_checkpoint, weights_only=True)
    weight = model.state_dict()['backbone.conv1.weight'].fill_(0.5)
    torch.save(dict(checkpoint, state_dict=model.state_dict()), tmp_path / 'pose.pth')

    model = init_model(Config(config), str(tmp_path / 'pose.pth'), device='cpu')
    assert torch.equal(model.state_dict()['backbone.conv1.weight'], weight)
    assert model.dataset_meta['dataset_name'] == 'coco'


def test_checkpoints_of_numpy_1_load(training_checkpoint, tmp_path):
    path = rewrite_pickle(
        training_checkpoint,
        tmp_path / 'old.pth',
        lambda data: data.replace(b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n'),
    )
    assert load(path)['meta']['dataset_meta']['sigmas'].shape == (17,)


@pytest.mark.parametrize('dtype', ['?', 'i1', 'u1', 'i2', 'i4', 'i8', 'f2', 'f4', 'f8'])
def test_arrays_and_scalars_load_unchanged(tmp_path, dtype):
    values = np.arange(6).astype(dtype)
    content = [values, values.reshape(2, 3).T, values[:0], np.asarray(values[3]), values[5]]
    torch.save(content, tmp_path / 'arrays.pth')
    for expected, got in zip(content, load(tmp_path / 'arrays.pth'), strict=True):
        assert type(got) is type(expected) and got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


# --- Hostile files --------------------------------------------------------------------------------


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


def rewrite_pickle(source, target, change):
    """Copy a checkpoint with ``change`` applied to the bytes of its pickle."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w') as new:
        for entry in old.namelist():
            data = old.read(entry)
            new.writestr(entry, change(data) if entry.endswith('data.pkl') else data)
    return target


def save_zip(content, path):
    torch.save(content, path)


def save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(content, path):
    with open(path, 'wb') as file:
        pickle.dump(content, file, protocol=2)


@pytest.mark.parametrize('save', [save_zip, save_legacy])
@pytest.mark.parametrize(
    ('function', 'names'),
    [
        (os.system, ('posix.system', 'nt.system')),
        (eval, ('builtins.eval', 'eval')),
        (Path.touch, ('builtins.getattr',)),
    ],
)
def test_hostile_checkpoint_is_refused(tmp_path, save, function, names):
    created = tmp_path / 'created'
    argument = {
        os.system: f'echo > {created}',
        eval: f'open({str(created)!r}, "w")',
        Path.touch: created,
    }[function]
    path = tmp_path / 'hostile.pth'
    save(dict(state_dict={}, meta=Call(function, argument)), path)

    with pytest.raises(UnsafeCheckpointError) as error:
        load(path)
    assert not created.exists()
    assert str(path) in str(error.value)
    assert any(name in str(error.value) for name in (*names, 'pathlib'))
    assert 'Nothing of it was executed' in str(error.value)
    assert 'weights_only' not in str(error.value)
    # Once more without the protection: the file was a real attack.
    torch.load(path, weights_only=False)
    assert created.exists()


def test_hostile_plain_pickle_is_refused(tmp_path):
    created = tmp_path / 'created'
    save_pickle(Call(os.system, f'echo > {created}'), tmp_path / 'hostile.pth')
    with pytest.raises(UnsafeCheckpointError, match='system'):
        load(tmp_path / 'hostile.pth')
    assert not created.exists()


def text(string):
    data = string.encode()
    return b'X' + struct.pack('<I', len(data)) + data


GETATTR = b'c__builtin__\ngetattr\n'
BUFFER = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
GET_MIN = GETATTR + BUFFER + text('min') + b'\x86R'


@pytest.mark.parametrize(
    'opcodes',
    [
        # getattr(HistoryBuffer, '__init__'), the way to __globals__ and from there to everything
        GETATTR + BUFFER + text('__init__') + b'\x86R',
        GETATTR + BUFFER + text('update') + b'\x86R',
        # getattr(HistoryBuffer.min, '__globals__')
        GETATTR + GET_MIN + text('__globals__') + b'\x86R',
        # getattr(HistoryBuffer(), 'min'): an instance may carry anything
        GETATTR + BUFFER + b')R' + text('min') + b'\x86R',
        GETATTR + b'ctorch\nTensor\n' + text('__reduce__') + b'\x86R',
        # getattr(os, 'system') in all the ways to name a module
        GETATTR + b'cos\n__name__\n' + text('system') + b'\x86R',
        GETATTR + b'c__builtin__\n__import__\n' + text('os') + b'\x85R' + text('system') + b'\x86R',
        GETATTR + b'cmmengine.logging.history_buffer\nnp\n' + text('os') + b'\x86R',
        # HistoryBuffer.min may be named, not called
        GET_MIN + BUFFER + b')R' + b'\x85R',
    ],
)
def test_getattr_reaches_nothing_else(tmp_path, opcodes):
    save_zip({}, tmp_path / 'empty.pth')
    path = rewrite_pickle(
        tmp_path / 'empty.pth', tmp_path / 'hostile.pth', lambda _: b'\x80\x02' + opcodes + b'.'
    )
    with pytest.raises((UnsafeCheckpointError, CorruptCheckpointError), match=r'hostile\.pth'):
        load(path)


def test_history_buffer_statistics_are_reachable(tmp_path):
    save_zip({}, tmp_path / 'empty.pth')
    path = rewrite_pickle(
        tmp_path / 'empty.pth', tmp_path / 'own.pth', lambda _: b'\x80\x02' + GET_MIN + b'.'
    )
    assert load(path) is HistoryBuffer.min


@pytest.mark.parametrize(
    'content',
    [
        np.array([{}, []], dtype=object),
        np.zeros(2, dtype=[('a', 'f4'), ('b', 'i4')]),
        np.array(['text']),
        Call(np.dtype, 'O'),
        Call(np.empty(0).__reduce__()[0], np.ndarray, (10**12,), b'b'),
        Call(np.float64(0).__reduce__()[0], np.dtype('f8'), b'short'),
    ],
)
def test_numpy_beyond_numbers_is_refused(tmp_path, content):
    torch.save(content, tmp_path / 'numpy.pth')
    with pytest.raises(UnsafeCheckpointError, match='numpy'):
        load(tmp_path / 'numpy.pth')


def test_dtype_flags_are_not_taken_from_the_file(tmp_path):
    # These flags would declare the eight bytes of a float to be a pointer to a Python object.
    state = (3, '<', None, None, None, -1, -1, 63)
    dtype = Call(np.dtype, 'f8', False, True, state=state)
    torch.save(dtype, tmp_path / 'flags.pth')
    assert torch.load(tmp_path / 'flags.pth', weights_only=False).flags == 63
    assert load(tmp_path / 'flags.pth').flags == 0
    assert np.dtype('f8').flags == 0


# --- Broken files ---------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nothing\.pth does not exist'):
        load(tmp_path / 'nothing.pth')
    with pytest.raises(FileNotFoundError, match='is a directory'):
        load(tmp_path)


@pytest.mark.parametrize('save', [save_zip, save_legacy])
@pytest.mark.parametrize('keep', [0, 1, 10, 200, 0.5, 0.99])
def test_truncated_file(tmp_path, save, keep):
    path = tmp_path / 'truncated.pth'
    save(dict(state_dict=OrderedDict(weight=torch.rand(100, 10))), path)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(CorruptCheckpointError, match=r'truncated\.pth .* bytes\) is truncated'):
        load(path)


@pytest.mark.parametrize(
    'content',
    [
        b'<html><body>404: not found</body></html>',
        b'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n',
        bytes(range(256)) * 4,
        bytes(1000),
        pickle.dumps({'a': 1}, protocol=5),
        b'PK\x03\x04' + bytes(300),
    ],
)
def test_file_that_is_no_checkpoint(tmp_path, content):
    path = tmp_path / 'other.pth'
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=r'other\.pth') as error:
        load(path)
    assert 'weights_only' not in str(error.value)


def test_other_errors_stay_what_they_are(tmp_path):
    torch.save(torch.rand(2), tmp_path / 'good.pth')
    with pytest.raises(RuntimeError, match='nonsense') as error:
        CheckpointLoader.load_checkpoint(str(tmp_path / 'good.pth'), map_location='nonsense')
    assert not isinstance(error.value, CorruptCheckpointError)


# --- Downloads ------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Address of a folder, whose files torch.hub keeps in another one."""
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    folder = tmp_path / 'served'
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()


def test_download(server):
    folder, url = server
    torch.save(dict(state_dict=dict(a=torch.ones(2))), folder / 'good.pth')
    assert torch.equal(load(f'{url}/good.pth')['state_dict']['a'], torch.ones(2))


def test_hostile_download_is_refused(server, tmp_path):
    folder, url = server
    created = tmp_path / 'created'
    save_zip(Call(os.system, f'echo > {created}'), folder / 'hostile.pth')
    with pytest.raises(UnsafeCheckpointError, match=r'http://.*hostile\.pth .*system'):
        load(f'{url}/hostile.pth')
    # torchvision:// and openmmlab:// call this function.
    with pytest.raises(pickle.UnpicklingError):
        mmengine_checkpoint.load_from_http(f'{url}/hostile.pth')
    assert not created.exists()


def test_older_torch_reads_weights_alone(server, tmp_path, monkeypatch):
    """What is done below 2.6, where torch.load is not protected unless it is told so."""
    folder, url = server
    created = tmp_path / 'created'
    torch.save(dict(state_dict=dict(a=torch.ones(2)), meta=dict(epoch=1)), folder / 'good.pth')
    save_zip(Call(os.system, f'echo > {created}'), folder / 'hostile.pth')
    monkeypatch.setattr(checkpoint, '_PROTECTED', False)
    seen = []

    def unprotected(*args, weights_only=False, **kwargs):
        seen.append(weights_only)
        return torch_load(*args, weights_only=weights_only, **kwargs)

    torch_load = torch.load
    monkeypatch.setattr(torch, 'load', unprotected)
    for place in (folder, url):
        assert load(f'{place}/good.pth')['meta']['epoch'] == 1
        with pytest.raises(UnsafeCheckpointError, match=r'hostile\.pth .*system'):
            load(f'{place}/hostile.pth')
    assert seen and all(seen) and not created.exists()


def test_install_is_idempotent():
    install_safe_loading()
    before = mmengine_checkpoint.load_url, len(torch.serialization.get_safe_globals())
    install_safe_loading()
    assert before == (mmengine_checkpoint.load_url, len(torch.serialization.get_safe_globals()))


# --- Shapes ---------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self, width=4, check=True, allow=()):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.register_buffer('cache', torch.zeros(width), persistent=False)
        if check:
            register_shape_check(self, allow)


def wrap(net):
    return nn.ModuleDict(dict(backbone=net, head=nn.Linear(2, 2)))


def load_torch(module, state_dict, strict=False):
    module.load_state_dict(state_dict, strict=strict)


def load_mmengine(module, state_dict, strict=False):
    mmengine_checkpoint.load_state_dict(module, state_dict, strict=strict)


both_loaders = pytest.mark.parametrize('load_into', [load_torch, load_mmengine])


@both_loaders
@pytest.mark.parametrize('place', [lambda net: net, wrap])
def test_fitting_checkpoint_loads(load_into, place):
    source, target = place(Net(check=False)), place(Net())
    load_into(target, source.state_dict(), strict=True)
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)


@both_loaders
def test_other_width_is_refused(load_into):
    with pytest.raises(ValueError, match='does not fit Net: 6 of 7 tensors') as error:
        load_into(Net(4), Net(8, check=False).state_dict())
    assert 'conv.weight: (8, 3, 1, 1) in the checkpoint, (4, 3, 1, 1) in the model' in str(
        error.value
    )
    with pytest.raises(ValueError, match=r'backbone\.conv\.weight: \(8, 3, 1, 1\)'):
        load_into(wrap(Net(4)), wrap(Net(8, check=False)).state_dict())


@both_loaders
def test_foreign_checkpoint_is_refused(load_into):
    with pytest.raises(ValueError, match='shares no key with Net: it holds weight, bias'):
        load_into(Net(), nn.Linear(2, 2).state_dict())
    with pytest.raises(ValueError, match='shares no key'):
        load_into(Net(), {})
    with pytest.raises(ValueError, match='shares no key'):
        load_into(wrap(Net()), wrap(nn.Sequential(nn.Conv2d(3, 4, 1))).state_dict())


@both_loaders
def test_partial_checkpoints_load(load_into):
    net = wrap(Net())
    load_into(net, {'head.weight': torch.ones(2, 2)})
    load_into(net, {'backbone.conv.bias': torch.ones(4)})
    assert net['backbone'].conv.bias.sum() == 4


def test_allowed_keys_are_left_to_the_loader():
    state_dict = dict(Net(4).state_dict(), **{'conv.weight': torch.zeros(9, 3, 1, 1)})
    for allow in (['conv.weight'], ['conv.*']):
        net = Net(4, allow=allow)
        weight = net.conv.weight.clone()
        load_mmengine(net, state_dict)
        assert torch.equal(net.conv.weight, weight)
    with pytest.raises(ValueError, match=r'conv\.weight'):
        load_mmengine(Net(4, allow=['norm.*']), state_dict)
    with pytest.raises(TypeError, match='sequence'):
        register_shape_check(Net(), 'conv.weight')


def test_scalars_of_old_checkpoints_pass():
    state_dict = dict(Net().state_dict(), **{'norm.num_batches_tracked': torch.tensor([3])})
    net = Net()
    net.load_state_dict(state_dict)
    assert net.norm.num_batches_tracked == 3


def test_load_checkpoint_file(tmp_path):
    torch.save(dict(state_dict=Net(8, check=False).state_dict()), tmp_path / 'w8.pth')
    with pytest.raises(ValueError, match='does not fit'):
        load_checkpoint(Net(4), str(tmp_path / 'w8.pth'), map_location='cpu')
    load_checkpoint(Net(8), str(tmp_path / 'w8.pth'), map_location='cpu')


@pytest.mark.parametrize('clone', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_checked_on_their_own(clone):
    net = Net(4)
    twin = clone(net)
    del net
    twin.conv = nn.Conv2d(3, 8, 1)
    twin.norm = nn.BatchNorm2d(8)
    twin.load_state_dict(Net(8).state_dict())
    with pytest.raises(ValueError, match='does not fit'):
        twin.load_state_dict(Net(4).state_dict())


def test_averaged_model_and_removal():
    average = ExponentialMovingAverage(Net(4))
    load_mmengine(average, ExponentialMovingAverage(Net(4)).state_dict(), strict=True)
    net = Net(check=False)
    handle = register_shape_check(net)
    handle.remove()
    load_mmengine(net, nn.Linear(2, 2).state_dict())


def test_check_shapes_ignores_other_prefixes_and_lazy_parameters():
    check_shapes(Net(check=False), {'other.conv.weight': torch.zeros(1)}, 'backbone.')
    check_shapes(nn.ReLU(), {'a': torch.zeros(1)})
    check_shapes(nn.LazyLinear(3), {'weight': torch.zeros(3, 7), 'bias': torch.zeros(3)})
