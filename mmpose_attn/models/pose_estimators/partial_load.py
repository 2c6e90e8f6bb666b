"""Estimators that load only a checkpoint that fits, or all but the parts that are named."""

from collections.abc import Sequence

from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS

from mmpose_attn.engine.weights import register_shape_check


class PartialLoad:
    """Mixin for MMPose's estimators: a checkpoint whose tensors have other shapes is an error.

    Args:
        partial_load: prefixes of parameters that may have another shape in a
            checkpoint and then keep their initialisation, such as
            ``('head.final_layer',)`` to start from another set of keypoints.
        *args, **kwargs: as for the estimator.

    Raises:
        TypeError: ``partial_load`` is a single text.
        ValueError: no parameter begins with one of its prefixes.
    """

    def __init__(self, *args, partial_load: Sequence[str] = (), **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(partial_load, str):
            raise TypeError(f'partial_load is a sequence of prefixes, got {partial_load!r}')
        names = list(self.state_dict())
        for prefix in partial_load:
            if not any(name.startswith(prefix) for name in names):
                raise ValueError(
                    f'partial_load: no parameter of this network begins with {prefix!r}; those of '
                    f'its head are {", ".join(n for n in names if n.startswith("head."))}'
                )
        self.partial_load = tuple(partial_load)
        register_shape_check(self, allow=tuple(f'{prefix}*' for prefix in partial_load))


@MODELS.register_module(name='TopdownPoseEstimator', force=True)
class CheckedTopdownPoseEstimator(PartialLoad, TopdownPoseEstimator):
    """:class:`mmpose.models.TopdownPoseEstimator` with :class:`PartialLoad`.

    It takes MMPose's place in the registry, so that configs name MMPose's and
    stay usable without this package.
    """
