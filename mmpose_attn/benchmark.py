"""Speed against MMPose: both in one process, on the same inputs, in interleaved pairs.

A figure is the ratio of the medians of both sides, so it does not depend on what else the machine
did for a moment, and every comparison first checks that both sides computed the same.
"""

import copy
import importlib.util
import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import cv2
import mmpose
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmpose.codecs.associative_embedding import AssociativeEmbedding
from mmpose.models import HRNet
from mmpose.models.losses import AssociativeEmbeddingLoss
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .codecs import HigherHRNetCodec, group_by_tags
from .deploy import channel_block, export_onnx, onnx_session
from .models import (
    AttnHRNet,
    BatchedAssociativeEmbeddingLoss,
    DEHRNet,
    DiteHRNet,
    HigherHRNetHead,
)

NUM_JOINTS = 17
JOINT_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
TOLERANCE = 1e-3  # pixels
PARTS = ('decode', 'loss', 'encode', 'attention', 'dite', 'flip')
DEFAULT_PARTS = PARTS[:5]


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        name: what was measured.
        theirs: milliseconds of every run of MMPose's side.
        ours: the same of this package's side.
        note: what was verified about the results.
    """

    name: str
    theirs: Sequence[float]
    ours: Sequence[float]
    note: str = ''

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.theirs), statistics.median(self.ours)

    @property
    def ratio(self) -> float:
        theirs, ours = self.medians
        return theirs / ours

    @property
    def overhead(self) -> float:
        """Median over the pairs of how much longer ours took: small differences are lost in a
        ratio of medians, because the machine's speed drifts by more than them."""
        return statistics.median(b / a for a, b in zip(self.theirs, self.ours, strict=True)) - 1


def interleave(
    theirs: Callable[[], Any],
    ours: Callable[[], Any],
    repeat: int,
    device: str = 'cpu',
    calls: int = 1,
) -> tuple[list[float], list[float]]:
    """Milliseconds of ``repeat`` calls of each, after one of each that does not count.

    They take turns, and turns in going first: the second of a pair finds the caches as the first
    left them. A turn may be of several ``calls``, whose median counts: for different libraries,
    of which one's threads still wait on the cores when the other begins.
    """

    def milliseconds(call: Callable[[], Any]) -> float:
        times = []
        for _ in range(calls):
            wait()
            start = perf_counter()
            call()
            wait()
            times.append(1e3 * (perf_counter() - start))
        return statistics.median(times)

    wait = torch.cuda.synchronize if device.startswith('cuda') else lambda: None
    milliseconds(theirs), milliseconds(ours)
    first, second = [], []
    for index in range(repeat):
        turns = [(theirs, first), (ours, second)]
        for call, times in turns[:: -1 if index % 2 else 1]:
            times.append(milliseconds(call))
    return first, second


# ------------------------------------------------------------------------------------- decoding
def make_scene(
    people: int, size: int = 512, seed: int = 0, missing: float = 0.18, dims: int = 2
) -> tuple[Tensor, Tensor]:
    """Maps like a network's: drawn at a quarter of the size, then enlarged bilinearly.

    Heatmaps are Gaussians over noise. Tags are a person's own, the same but for noise, where that
    person is, and a smooth background elsewhere. A missing keypoint has no peak above the usual
    threshold of 0.1; half of them leave a faint trace (hidden), half none at all (outside).

    Args:
        people: number of people.
        size: height and width of the maps in pixels.
        seed: of the generator.
        missing: share of keypoints that are missing.
        dims: tags a keypoint; 2 is what the flip test gives.

    Returns:
        heatmaps (1, 17, size, size) and tags (1, dims*17, size, size).
    """
    rng = np.random.default_rng(seed)
    cells = size // 4
    heat = rng.normal(0, 0.01, (NUM_JOINTS, cells, cells)).astype(np.float32)
    coarse = rng.normal(0, 0.5, (dims, NUM_JOINTS, max(cells // 16, 2), max(cells // 16, 2)))
    tags = _enlarge(coarse.astype(np.float32), cells)
    y, x = np.mgrid[:cells, :cells]
    # the more people, the smaller they are, and nobody stands where somebody is
    places = np.zeros((0, 2))
    for _ in range(people):
        free = rng.uniform(0.15, 0.85, (20, 1, 2)) * cells
        away = np.linalg.norm(free - places, axis=2).min(1, initial=cells)
        places = np.concatenate((places, free[away.argmax()]))
    for person, centre in enumerate(places):
        height = rng.uniform(0.3, 0.6) / np.sqrt(people) * cells
        tag = 1.2 * (person - (people - 1) / 2)
        for joint in range(NUM_JOINTS):
            place = centre + rng.uniform(-0.5, 0.5, 2) * height * (0.5, 1.0)
            place = np.clip(place, 2.3, cells - 3.3)
            squared = (x - place[0]) ** 2 + (y - place[1]) ** 2
            gone = rng.random() < missing
            if gone and rng.random() < 0.5:
                continue
            peak = rng.uniform(0.02, 0.07) if gone else rng.uniform(0.35, 0.95)
            gauss = peak * np.exp(-squared / (2 * 2.0**2))
            # where two people meet, the tags are those of the stronger response
            near = (squared < (0.12 * height) ** 2 + 9) & (gauss >= heat[joint] - 0.03)
            heat[joint] = np.maximum(heat[joint], gauss)
            noise = rng.normal(0, 0.05, (dims, 1))
            tags[:, joint, near] = tag + noise + rng.normal(0, 0.02, (dims, near.sum()))
    maps = [torch.from_numpy(_enlarge(m.astype(np.float32), size)) for m in (heat[None], tags)]
    return maps[0], maps[1].reshape(1, -1, size, size)


def _enlarge(maps: np.ndarray, size: int) -> np.ndarray:
    resized = F.interpolate(
        torch.from_numpy(maps), size=(size, size), mode='bilinear', align_corners=False
    )
    return resized.numpy()


class _SameGroups(AssociativeEmbedding):
    """MMPose's decoder with this package's choice among equally good assignments."""

    def _group_keypoints(self, batch_vals, batch_tags, batch_locs):
        return [
            group_by_tags(
                vals,
                tags,
                locs,
                self.decode_keypoint_order,
                self.decode_keypoint_thr,
                self.decode_tag_thr,
            )
            for vals, tags, locs in zip(batch_vals, batch_tags, batch_locs, strict=True)
        ]


def is_tied(vals: np.ndarray, tags: np.ndarray, locs: np.ndarray, codec: HigherHRNetCodec) -> bool:
    """Whether grouping has an assignment that others equal in cost.

    MMPose's costs are multiples of 100 minus a value, so that happens often; which one is chosen
    then depends on the solver. Arguments as for :func:`mmpose_attn.codecs.group_by_tags`.
    """
    means: list[np.ndarray] = []
    members: list[list[np.ndarray]] = []
    for joint in codec.decode_keypoint_order:
        keep = vals[joint] > codec.decode_keypoint_thr
        tag, val = tags[joint][keep], vals[joint][keep].astype(np.float64)
        if not len(tag):
            continue
        if not members:
            members = [[t] for t in tag]
            continue
        means = np.stack([np.mean(m, axis=0) for m in members])
        distance = np.linalg.norm(tag[:, None].astype(np.float64) - means, axis=2)
        # of equally good assignments the small terms prefer different ones
        cost = np.round(distance) * 100 - val[:, None]
        small = 1e-8 * np.minimum(distance, 10) ** 2
        matched = []
        for sign in (1, -1):
            rows, cols = linear_sum_assignment(cost + sign * small)
            near = distance[rows, cols] < codec.decode_tag_thr
            matched.append(dict(zip(rows[near], cols[near], strict=True)))
        if matched[0] != matched[1]:
            return True
        for row, t in enumerate(tag):
            if row in matched[0]:
                members[matched[0][row]].append(t)
            else:
                members.append([t])
    return False


def _decode_rows(
    people: Sequence[int], size: int, scenes: int, repeat: int, device: str
) -> Iterator[Row]:
    kwargs = dict(
        input_size=(size, size),
        heatmap_size=(size, size),
        sigma=2,
        decode_keypoint_order=list(JOINT_ORDER),
        decode_center_shift=0.5,
    )
    stock, same, codec = (
        kind(**kwargs) for kind in (AssociativeEmbedding, _SameGroups, HigherHRNetCodec)
    )
    for number in people:
        theirs, ours, ties, difference = [], [], 0, 0.0
        for seed in range(scenes):
            heat, tags = (m.to(device) for m in make_scene(number, size, seed))
            flat = stock._get_batch_topk(
                _peaks(heat, codec.decode_nms_kernel), tags, codec.decode_topk
            )
            tied = is_tied(*(part[0].cpu().numpy() for part in flat), codec)
            ties += tied
            difference = max(
                difference,
                _difference((same if tied else stock).batch_decode(heat, tags), codec, heat, tags),
            )
            pair = interleave(
                lambda: stock.batch_decode(heat, tags),  # noqa: B023
                lambda: codec.batch_decode(heat, tags),  # noqa: B023
                repeat,
                device,
            )
            theirs += pair[0]
            ours += pair[1]
        if difference > TOLERANCE:
            raise RuntimeError(
                f'decoding {number} people differs from MMPose by {difference:.3g} px; '
                'no time was worth measuring'
            )
        yield Row(
            f'decode {size}x{size}, flip tags, {number} people',
            theirs,
            ours,
            f'keypoints within {difference:.1g} px; assignments tied in {ties} of {scenes} scenes',
        )


def _peaks(heat: Tensor, kernel: int) -> Tensor:
    highest = F.max_pool2d(heat, kernel, stride=1, padding=kernel // 2)
    return heat * (highest == heat)


def _difference(expected: tuple, codec: HigherHRNetCodec, heat: Tensor, tags: Tensor) -> float:
    """Greatest difference of keypoints in pixels; infinite if the people differ in number."""
    worst = 0.0
    decoded = codec.batch_decode(heat, tags)
    for theirs, ours in zip(expected[0], decoded[0], strict=True):
        if theirs.shape != ours.shape:
            return float('inf')
        worst = max(worst, float(np.abs(theirs - ours).max(initial=0)))
    return worst


# ----------------------------------------------------------------------------------------- loss
def _loss_rows(batch: int, people: int, size: int, repeat: int, device: str) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    tags = torch.randn(
        batch, NUM_JOINTS, size, size, generator=torch.Generator().manual_seed(0)
    ).to(device)
    tags.requires_grad_(True)
    indices = np.stack(
        (
            rng.integers(0, size * size, (batch, people, NUM_JOINTS)),
            rng.random((batch, people, NUM_JOINTS)) > 0.3,
        ),
        -1,
    )
    indices = torch.from_numpy(indices.astype(np.int64)).to(device)
    stock = AssociativeEmbeddingLoss(loss_weight=1e-3)
    loss = BatchedAssociativeEmbeddingLoss(pull_weight=1e-3, push_weight=1e-3)

    def gradient(kind: torch.nn.Module) -> Tensor:
        tags.grad = None
        sum(kind(tags, indices)).backward()
        return tags.grad

    # MMPose's loss is the sum over the images, this one's the mean
    theirs, ours = gradient(stock).clone() / batch, gradient(loss)
    difference = float((theirs - ours).abs().max() / theirs.abs().max())
    if difference > 1e-4:
        raise RuntimeError(f'the gradients of the losses differ by {difference:.2g} of the largest')
    yield Row(
        f'grouping loss, forward and backward, {batch} images x {people} people, {size}x{size}',
        *interleave(lambda: gradient(stock), lambda: gradient(loss), repeat, device),
        f'gradients within {difference:.1g} of the largest, after division by the batch size',
    )


# --------------------------------------------------------------------------------------- encode
def _encode_rows(people: Sequence[int], size: int, repeat: int) -> Iterator[Row]:
    sizes = [(size // 4, size // 4), (size // 2, size // 2)]
    stock = [AssociativeEmbedding((size, size), maps, sigma=2) for maps in sizes]
    codec = HigherHRNetCodec((size, size), sizes, sigma=2)
    for number in people:
        rng = np.random.default_rng(number)
        keypoints = rng.uniform(0, size, (number, NUM_JOINTS, 2)).astype(np.float32)
        visible = (rng.random((number, NUM_JOINTS)) > 0.3).astype(np.float32)
        yield Row(
            f'encode {number} people, targets at 1/4 and 1/2 of {size}x{size}',
            *interleave(
                lambda: [one.encode(keypoints, visible) for one in stock],  # noqa: B023
                lambda: codec.encode(keypoints, visible),  # noqa: B023
                repeat,
            ),
            'not compared: the cells are floor here, rounded in MMPose (README)',
        )


# ------------------------------------------------------------------------------------ attention
def _hrnet_extra(width: int) -> dict:
    stages = [[width * 2**branch for branch in range(count)] for count in (2, 3, 4)]
    extra = dict(
        stage1=dict(
            num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(4,), num_channels=(64,)
        )
    )
    for index, (channels, modules) in enumerate(zip(stages, (1, 4, 3), strict=True)):
        extra[f'stage{index + 2}'] = dict(
            num_modules=modules,
            num_branches=len(channels),
            block='BASIC',
            num_blocks=(4,) * len(channels),
            num_channels=tuple(channels),
        )
    return extra


# what the papers put where; CAM/SAM's is its proposed model
PLUGINS = {
    'SE in the stem': [dict(cfg=dict(type='SEAttention'), position='stem')],
    'ECA in every block': [dict(cfg=dict(type='ECAAttention'), position='after_conv2')],
    'CBAM after every fusion': [dict(cfg=dict(type='CBAMAttention'), position='fuse')],
    'CAM/SAM': [
        dict(cfg=dict(type='CAMSAMAttention'), position='transition', branches=0),
        dict(cfg=dict(type='CAMSAMAttention'), position='transition', stages=1, branches=1),
    ],
    'PSA in every basic block': [
        dict(cfg=dict(type='PolarizedAttention'), position='after_conv1', stages=(2, 3, 4))
    ],
}


def _attention_rows(width: int, size: tuple[int, int], repeat: int, device: str) -> Iterator[Row]:
    """HRNet of MMPose against the same with attention, one image."""
    init_default_scope('mmpose')  # where plugins are looked up
    extra = _hrnet_extra(width)
    plain = HRNet(extra).to(device)
    plain.eval()
    image = torch.randn(1, 3, *size[::-1], generator=torch.Generator().manual_seed(0)).to(device)
    builders = {name: partial(AttnHRNet, extra, plugins) for name, plugins in PLUGINS.items()}
    builders['DEM and DySample'] = partial(DEHRNet, extra)
    for name, build in {'no plugin': partial(AttnHRNet, extra), **builders}.items():
        network = build().to(device).eval()
        # the very same weights: where a copy lies in memory alone makes up to 2 %
        network.load_state_dict(plain.state_dict(), strict=False, assign=True)
        with torch.no_grad():
            theirs, ours = interleave(lambda: plain(image), lambda: network(image), repeat, device)  # noqa: B023
        plugins = [plugin.module for plugin in network.named_plugins()]
        with torch.no_grad():
            if not plugins and not torch.equal(plain(image)[0], network(image)[0]):
                raise RuntimeError('AttnHRNet without plugins differs from HRNet')
        cost = sum(p.numel() for plugin in plugins for p in plugin.parameters())
        name = f'HRNet-W{width} {size[0]}x{size[1]}, then with {name}'
        note = f'{len(plugins)} places, {cost:,} parameters'
        row = Row(name, theirs, ours, note)
        yield replace(row, note=f'{100 * row.overhead:+.1f} %; {note}')


# ----------------------------------------------------------------------------------------- dite
def _dite_extra(width: int, modules: Sequence[int]) -> dict:
    return dict(
        stem=dict(stem_channels=32, out_channels=32),
        num_stages=3,
        stages_spec=dict(
            num_modules=modules,
            num_branches=(2, 3, 4),
            num_blocks=(2, 2, 2),
            reduce_ratios=(8, 8, 8),
            num_channels=[[width * 2**branch for branch in range(count)] for count in (2, 3, 4)],
        ),
        with_head=True,
    )


def _stored(step: Callable[[], Any]) -> float:
    """Megabytes that autograd keeps for the backward pass, every storage once."""
    sizes = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = step()  # as long as it lives no address is used twice
    del out
    return sum(sizes.values()) / 1e6


def _in_onnxruntime(network: torch.nn.Module, size: tuple[int, int], tuned: bool) -> Callable:
    """A network, exported, as a function of a tensor."""
    import onnxruntime

    threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, 'network.onnx')
        export_onnx(network, path, size, block=channel_block() if tuned else None)
        if tuned:
            session = onnx_session(path, threads)
        else:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            # between its turns it leaves the cores to PyTorch
            options.add_session_config_entry('session.force_spinning_stop', '1')
            cpu = ['CPUExecutionProvider']
            session = onnxruntime.InferenceSession(path, options, providers=cpu)

    def run(image: Tensor) -> list[Tensor]:
        outputs = session.run(None, {'image': image.cpu().numpy()})
        return [torch.from_numpy(output).to(image.device) for output in outputs]

    return run


def _dite_rows(
    width: int,
    modules: Sequence[int],
    size: tuple[int, int],
    batches: Sequence[int],
    hrnet_width: int,
    repeat: int,
    device: str,
) -> Iterator[Row]:
    """The authors' arithmetic against shorter ones, one image and training steps."""
    extra = _dite_extra(width, modules)
    plain, short = (DiteHRNet(extra, fast=fast).to(device) for fast in (False, True))
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in plain.modules() if isinstance(module, _BatchNorm)]
    with torch.no_grad():
        for parameter in plain.cpu().parameters():
            if parameter.ndim > 1:  # the initial 0.001 would hide every difference
                torch.nn.init.kaiming_normal_(parameter, generator=generator)
        # Statistics of what there is, or such weights enlarge rounding to a percent; but means of
        # noise hardly differ, and dividing by how little they do would enlarge it to all.
        for norm in norms:
            norm.momentum = None  # all that was seen, not the latest tenth
        plain(torch.randn(8, 3, *size[::-1], generator=generator))
        for norm in norms:
            norm.momentum = 0.1
            norm.running_var.clamp_(min=1)
    plain.to(device)
    short.load_state_dict(plain.state_dict())
    plain.eval(), short.eval()
    hrnet = HRNet(_hrnet_extra(hrnet_width)).to(device)
    hrnet.eval()
    image = torch.randn(1, 3, *size[::-1], generator=generator).to(device)
    name = f'dite {width} wide, modules {tuple(modules)}, {size[0]}x{size[1]}'
    networks = {
        'short form': short,
        'fused, not recorded': short.fuse_for_inference(record=False),
        'fused': short.fuse_for_inference(),
    }
    if importlib.util.find_spec('onnxruntime') and importlib.util.find_spec('onnx'):
        networks['onnxruntime'] = _in_onnxruntime(short, size, tuned=False)
        networks['onnx_session'] = _in_onnxruntime(short, size, tuned=True)

    @torch.no_grad()
    def run(network: Callable[[Tensor], Sequence[Tensor]]) -> Tensor:
        return network(image)[0]

    # both sides round: they are compared with exact arithmetic
    exact = run(lambda x: copy.deepcopy(plain).double()(x.double()))

    def error(network: Callable[[Tensor], Sequence[Tensor]]) -> float:
        return float((run(network) - exact).abs().max() / exact.abs().max())

    for kind, network in networks.items():
        theirs, ours = error(plain), error(network)
        if ours > max(1e-5, 3 * theirs):
            raise RuntimeError(f'the {kind} is {ours:.2g} off, the plain one {theirs:.2g}')
        calls = 16 if 'onnx' in kind else 1
        pair = interleave(lambda: run(plain), lambda: run(network), repeat, device, calls)  # noqa: B023
        yield Row(
            f'{name}, one image: {kind}',
            *pair,
            f'off by {ours:.1g} of the largest output for rounding, the plain one by {theirs:.1g}',
        )
    best = networks['fused']
    yield Row(
        f'{name}, one image: HRNet-W{hrnet_width}, then fused',
        *interleave(lambda: run(hrnet), lambda: run(best), repeat, device),
        'another network',
    )

    plain.train(), short.train()
    for batch in batches:
        images = torch.randn(batch, 3, *size[::-1], generator=generator).to(device)

        def step(network: torch.nn.Module) -> None:
            network.zero_grad()
            network(images)[0].square().mean().backward()  # noqa: B023

        stored = [_stored(lambda: network(images)) for network in (plain, short)]  # noqa: B023
        yield Row(
            f'{name}, training step of {batch}',
            *interleave(
                lambda: step(plain), lambda: step(short), max(2, repeat * 2 // (batch + 4)), device
            ),
            f'kept for the backward pass: {stored[0]:.0f} MB, then {stored[1]:.0f} MB, '
            f'{stored[1] / stored[0]:.2f}x',
        )


# ----------------------------------------------------------------------------------------- flip
def _flip_rows(width: int, size: int, repeat: int, device: str) -> Iterator[Row]:
    head = HigherHRNetHead(width, NUM_JOINTS, deconv_out_channels=(width,))
    network = torch.nn.Sequential(AttnHRNet(_hrnet_extra(width)), head).to(device).eval()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)

    @torch.no_grad()
    def two() -> list[Tensor]:
        return [torch.cat(maps) for maps in zip(network(image), network(image.flip(-1)))]

    @torch.no_grad()
    def one() -> list[Tensor]:
        return network(torch.cat((image, image.flip(-1))))

    difference = max(float((a - b).abs().max()) for a, b in zip(two(), one(), strict=True))
    scale = max(float(maps.abs().max()) for maps in one())
    if difference > 1e-3 * scale:
        raise RuntimeError(f'one and two forward passes differ by {difference:.2g} of {scale:.2g}')
    yield Row(
        f'flip test, HigherHRNet-W{width} at {size}x{size}: two forward passes, then one',
        *interleave(two, one, repeat, device),
        f'maps within {difference / scale:.1g} of the largest',
    )


# ------------------------------------------------------------------------------------------ all
def run(
    parts: Sequence[str] = DEFAULT_PARTS,
    quick: bool = False,
    repeat: int | None = None,
    device: str = 'cpu',
) -> Iterator[Row]:
    """Measure, row by row.

    Args:
        parts: of :data:`PARTS`; ``'attention'`` compares HRNet without and with plugins,
            ``'dite'`` Dite-HRNet's plain arithmetic with the short and the fused one, ``'flip'``
            a whole network's flip test with itself.
        quick: tiny inputs and few repetitions: shows that it runs, not how fast.
        repeat: interleaved pairs per input; by default what takes some seconds a row.
        device: torch device of decoding, loss and network.

    Raises:
        RuntimeError: if the two sides do not compute the same.
        ValueError: if a part is not known.
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise ValueError(f'unknown parts {unknown}; there are {PARTS}')
    size = 128 if quick else 512
    if 'decode' in parts:
        people = (1, 2) if quick else (1, 2, 5, 15, 30)
        yield from _decode_rows(
            people, size, 2 if quick else 6, repeat or (1 if quick else 5), device
        )
    if 'loss' in parts:
        batch, number = (2, 2) if quick else (24, 8)
        yield from _loss_rows(batch, number, size // 4, repeat or (2 if quick else 15), device)
    if 'encode' in parts:
        yield from _encode_rows(
            (2,) if quick else (2, 10, 30), size, repeat or (2 if quick else 50)
        )
    if 'attention' in parts:
        width, image = (8, (64, 64)) if quick else (32, (192, 256))
        yield from _attention_rows(width, image, repeat or (2 if quick else 100), device)
    if 'dite' in parts:
        network = (
            (8, (1, 1, 1), (64, 64), (2,), 8) if quick else (40, (2, 4, 2), (192, 256), (8, 32), 32)
        )
        yield from _dite_rows(*network, repeat or (2 if quick else 20), device)
    if 'flip' in parts:
        yield from _flip_rows(
            8 if quick else 32, size // (2 if quick else 1), repeat or (1 if quick else 7), device
        )


def environment(device: str = 'cpu') -> str:
    """What the figures depend on, in one line."""
    name = platform.processor() or platform.machine()
    if os.path.exists('/proc/cpuinfo'):
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            models = [line.split(':', 1)[1].strip() for line in file if 'model name' in line]
        name = models[0] if models else name
    if device.startswith('cuda'):
        name = f'{torch.cuda.get_device_name(device)}, {name}'
    return (
        f'{name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; '
        f'{torch.get_num_threads()} threads (torch), '
        f'{cv2.getNumThreads()} (OpenCV); Python {platform.python_version()}, '
        f'torch {torch.__version__}, MMPose {mmpose.__version__}'
    )


def format_row(row: Row, markdown: bool = False) -> str:
    """A line of the table that :func:`format_head` starts."""
    theirs, ours = row.medians
    numbers = (f'{theirs:.2f}', f'{ours:.2f}', f'{row.ratio:.1f}x')
    if markdown:
        return '| ' + ' | '.join((row.name, *numbers, row.note)) + ' |'
    return f'{row.name:<72}' + ''.join(f'{number:>11}' for number in numbers) + f'   {row.note}'


def format_head(markdown: bool = False) -> str:
    """Head of the table."""
    heads = ('MMPose ms', 'ours ms', 'ratio')
    if markdown:
        return '| | ' + ' | '.join(heads) + ' | verified |\n|---|---|---|---|---|'
    return f'{"medians":<72}' + ''.join(f'{head:>11}' for head in heads)
