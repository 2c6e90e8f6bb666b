"""What attention modules do with an image: their gates, recorded while a network runs.

A module shows itself by a method ``attention_maps`` that takes what ``forward`` takes and returns,
without a side effect, some of

=========== ============= =====================================================================
name        shape         meaning
=========== ============= =====================================================================
``channel`` (N, C)        a gate for every channel
``spatial`` (N, 1, H, W)  a gate for every place
``gates``   (N, C, h, w)  a gate for every channel and cell, enlarged (nearest) to the input
``kernels`` (N, K)        the weights by which kernels are mixed
``mask``    (N, 1, H, W)  the weights of places in a pooling
``offsets`` (N, 2, H, W)  x and y in the input's pixels, by which an upsampling moves its samples
=========== ============= =====================================================================

and says in its docstring how the output follows from them. A module whose input and output are
lists returns a list of such dicts. The modules of this package compute their output by these very
methods or by the functions that they call, so that what is shown is what is applied.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmpose.models.pose_estimators import BottomupPoseEstimator
from mmpose.models.pose_estimators.base import BasePoseEstimator
from torch import Tensor, nn
from torch.nn import functional as F

from mmpose_attn.datasets import LoadPoseImage
from mmpose_attn.models.backbones import DiteHRNet, PlacedPlugin

DIMS = dict(channel=2, spatial=4, gates=4, kernels=2, mask=4, offsets=4)
NO_MAPS = 'no attention_maps(): energy alone'


@dataclass(frozen=True, eq=False)
class SiteMaps:
    """One call of one attention module, on the CPU in float32.

    Attributes:
        name: the module's path in the network, as in ``get_submodule(name)``; ``name[i]`` is the
            i-th tensor of a module that takes several.
        kind: its class.
        place: of a plugin, such as ``'fuse, stage 4, branch 0'``; otherwise empty.
        call: how often it was called before: networks may share a module, or run twice.
        before: (N, 1, H, W) energy of the input, the root of the mean square over channels.
        after: the same of the output, whose size may be another.
        channel, spatial, gates, kernels, mask, offsets: what its ``attention_maps`` returns (see
            this file), or None.
        note: what there is to say about it, or empty.
        group: of a plugin, what it shares with those of other branches, such as
            ``'stage 4, fuse'``; otherwise empty.
    """

    name: str
    kind: str
    place: str
    call: int
    before: Tensor
    after: Tensor
    channel: Tensor | None = None
    spatial: Tensor | None = None
    gates: Tensor | None = None
    kernels: Tensor | None = None
    mask: Tensor | None = None
    offsets: Tensor | None = None
    note: str = ''
    group: str = ''

    @property
    def gain(self) -> Tensor:
        """(N,) root mean square of the output over that of the input."""
        before, after = (x.square().mean((1, 2, 3)).sqrt() for x in (self.before, self.after))
        return after / before.clamp(min=torch.finfo(before.dtype).tiny)


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """What goes into a network.

    Attributes:
        inputs: (N, 3, H, W), normalised, on the network's device.
        pictures: (N, H, W, 3) uint8, BGR: the same as pictures, to draw maps over.
    """

    inputs: Tensor
    pictures: np.ndarray


def prepare(
    model: BasePoseEstimator,
    image: np.ndarray | str | os.PathLike,
    boxes: np.ndarray | Sequence[Sequence[float]] | None = None,
) -> NetworkInput:
    """An image as the test pipeline of a model from :func:`mmpose.apis.init_model` shows it.

    Args:
        model: top-down or bottom-up.
        image: (H, W, 3) uint8 in BGR, or its file.
        boxes: (N, 4) x1, y1, x2, y2 of people, for a top-down network alone; None is the whole
            image. Further columns, such as scores, are ignored.

    Returns:
        A crop for every box, or the image at the test scale 1.

    Raises:
        ValueError: boxes for a bottom-up network, or boxes without area.
    """
    bottomup = isinstance(model, BottomupPoseEstimator)
    if bottomup and boxes is not None:
        raise ValueError('a bottom-up network takes the whole image: leave boxes out')
    if not isinstance(image, np.ndarray):
        image = LoadPoseImage().transform(dict(img_path=os.fspath(image)))['img']
    info = dict(model.dataset_meta, img=image)
    infos = [info]
    if not bottomup:
        boxes = [(0, 0, *image.shape[1::-1])] if boxes is None else boxes
        rows = np.asarray(boxes, np.float32)[..., :4]
        if rows.shape != (len(boxes), 4) or not (rows[:, 2:] > rows[:, :2]).all():
            raise ValueError(f'boxes are rows x1 < x2, y1 < y2 in pixels, got {boxes}')
        infos = [dict(info, bbox=row[None], bbox_score=np.ones(1, np.float32)) for row in rows]
    with DefaultScope.overwrite_default_scope(model.cfg.get('default_scope') or 'mmpose'):
        samples = list(map(Compose(model.cfg.test_dataloader.dataset.pipeline), infos))
    for sample in samples:
        if isinstance(sample['inputs'], list):  # a pyramid
            scales = sample['data_samples'].metainfo['aug_scales']
            sample['inputs'] = sample['inputs'][scales.index(1)]
    pictures = torch.stack([sample['inputs'] for sample in samples])
    inputs = model.data_preprocessor(pseudo_collate(samples), False)['inputs']
    right, below = (inputs.shape[side] - pictures.shape[side] for side in (3, 2))
    pictures = F.pad(pictures, (0, right, 0, below))  # as the preprocessor does
    return NetworkInput(inputs, pictures.permute(0, 2, 3, 1).contiguous().numpy())


def collect(
    model: nn.Module,
    image: np.ndarray | str | os.PathLike | NetworkInput | Tensor,
    boxes: np.ndarray | Sequence[Sequence[float]] | None = None,
    sites: str = '*',
) -> list[SiteMaps]:
    """Run a network once, without flip test, and record what its attention modules do.

    Args:
        model: from :func:`mmpose.apis.init_model` or, for a tensor, any network, in evaluation
            mode. Nobody else may use it meanwhile.
        image: as for :func:`prepare`, or what it returned, or a tensor (N, C, H, W) as it goes
            into the network.
        boxes: as for :func:`prepare`, with an image.
        sites: only modules whose path matches this pattern, as in :mod:`fnmatch`.

    Returns:
        The calls in the order in which they ended.

    Raises:
        ValueError: as :func:`prepare` and :func:`record`.
    """
    if isinstance(image, (NetworkInput, Tensor)):
        if boxes is not None:
            raise ValueError('boxes need an image; this is already the input of the network')
    else:
        image = prepare(model, image, boxes)
    inputs = image.inputs if isinstance(image, NetworkInput) else image
    with torch.no_grad(), record(model, sites) as found:
        if isinstance(model, BasePoseEstimator):
            model(inputs, None, mode='tensor')
        else:
            model(inputs)
    return found


def attention_sites(model: nn.Module) -> dict[str, PlacedPlugin | None]:
    """Every module of a network that has ``attention_maps`` or is a plugin, and which, by path."""
    plugins = {}
    for prefix, host in model.named_modules():
        for plugin in host.named_plugins() if hasattr(host, 'named_plugins') else ():
            path = f'{prefix}.{plugin.name}' if prefix else plugin.name
            plugins[path] = plugin
    return {
        name: plugins.get(name)
        for name, module in model.named_modules()
        if name in plugins or hasattr(module, 'attention_maps')
    }


@contextmanager
def record(model: nn.Module, sites: str = '*') -> Iterator[list[SiteMaps]]:
    """Record attention in whatever runs a network inside the ``with`` statement.

    .. code-block:: python

        with torch.no_grad(), record(model) as found:
            model.test_step(batch)  # with flip test: two calls of a module, or a batch of two

    A :class:`DiteHRNet`, which takes short cuts around its modules, takes none meanwhile, and a
    compiled network runs as it is written.

    Args:
        model: in evaluation mode; its forward passes must be without gradients.
        sites: as for :func:`collect`.

    Yields:
        a list that grows with every call of a module.

    Raises:
        ValueError: if no module matches ``sites``, or in a forward pass if a module's
            ``attention_maps`` does not return what is described above.
        RuntimeError: in a forward pass in training mode or with gradients.
    """
    found = attention_sites(model)
    if not found:
        raise ValueError(
            f'{type(model).__name__} has no attention: no plugin, and no module with '
            'attention_maps() (a network for inference made by fuse_for_inference() has lost them)'
        )
    chosen = [name for name in found if fnmatchcase(name, sites)]
    if not chosen:
        raise ValueError(f'sites {sites!r} match none of {_shortened(list(found))}')
    recorder = _Recorder()
    shortcuts = [m for m in model.modules() if isinstance(m, DiteHRNet) and m.fast]
    # nothing is compiled where this was never imported, and to import it takes seconds
    compiled = 'torch._dynamo' in sys.modules and hasattr(torch.compiler, 'set_stance')
    handles = []
    try:
        for module in shortcuts:
            module.fast = False
        for name in chosen:
            handles += recorder.watch(name, found[name], model.get_submodule(name))
        with torch.compiler.set_stance('force_eager') if compiled else nullcontext():
            yield recorder.found
    finally:
        for handle in handles:
            handle.remove()
        for module in shortcuts:
            module.fast = True


class _Recorder:
    """Forward hooks of one :func:`record`."""

    def __init__(self) -> None:
        self.found: list[SiteMaps] = []
        self._calls: dict[str, int] = {}
        self._open: list[tuple] = []
        self._asking = False  # attention_maps may call modules that are watched as well

    def watch(self, name: str, plugin: PlacedPlugin | None, module: nn.Module) -> list:
        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            if self._asking:
                return
            if module.training or torch.is_grad_enabled():
                raise RuntimeError(
                    f'{name}: attention is recorded in evaluation mode and under torch.no_grad()'
                )
            # before forward: it may change its input
            features = _features([*args, *kwargs.values()][:1])
            self._open.append((self._maps(name, module, args, kwargs, features), features))

        def after(module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
            if self._asking:
                return
            maps, energies = self._open.pop()
            call = self._calls.get(name, 0)
            self._calls[name] = call + 1
            for i, (each, energy, out) in enumerate(zip(maps, energies, _features([output]))):
                path = name if len(maps) == 1 else f'{name}[{i}]'
                note = '' if each is not None else NO_MAPS
                self.found.append(
                    SiteMaps(
                        path,
                        type(module).__name__,
                        plugin.place if plugin else '',
                        call,
                        energy,
                        out,
                        note=note,
                        group=plugin.group if plugin else '',
                        **each or {},
                    )
                )

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ]

    def _maps(
        self, name: str, module: nn.Module, args: tuple, kwargs: dict, features: list[Tensor]
    ) -> list[dict[str, Tensor] | None]:
        """One dict for every tensor of the input; None for a module that does not show itself."""
        if not hasattr(module, 'attention_maps'):
            return [None] * len(features)
        self._asking = True
        try:
            found = module.attention_maps(*args, **kwargs)
        finally:
            self._asking = False
        found = [found] if isinstance(found, Mapping) else list(found)
        kind = f'{name}: attention_maps of {type(module).__name__}'
        if len(found) != len(features):
            raise ValueError(f'{kind} returns {len(found)} maps for {len(features)} tensors')
        for maps, energy in zip(found, features):
            for key, value in maps.items():
                batch = len(energy)
                if key not in DIMS or value.ndim != DIMS[key] or len(value) != batch:
                    known = ', '.join(f'{key} of {dims} dimensions' for key, dims in DIMS.items())
                    raise ValueError(
                        f'{kind} returns {key} {tuple(value.shape)} for a batch of {batch}; '
                        f'known are {known}'
                    )
        return [{key: value.float().cpu() for key, value in maps.items()} for maps in found]


def _features(values: Sequence) -> list[Tensor]:
    """The energy (N, 1, H, W) of a tensor, or of every one in a list."""
    (value,) = values
    tensors = [value] if isinstance(value, Tensor) else list(value)
    return [x.float().square().mean(1, keepdim=True).sqrt().cpu() for x in tensors]


def _shortened(names: list[str], limit: int = 6) -> str:
    more = f', ... ({len(names)} in all)' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more
