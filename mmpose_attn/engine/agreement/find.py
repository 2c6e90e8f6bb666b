"""All checks, one after the other."""

from mmengine.config import Config
from mmpose.models.pose_estimators import BottomupPoseEstimator, TopdownPoseEstimator

from .disagreement import Disagreement
from .joints import check_joints
from .metrics import check_best, check_metrics
from .parts import Parts, parts_of_config
from .sizes import check_codecs, check_sizes, check_test_cfg


def find_disagreements(config_or_parts: Config | Parts) -> list[Disagreement]:
    """Everything that does not agree, each with its key in the config and what to write there.

    Args:
        config_or_parts: a config, whose model, data sets (without their annotations) and metrics
            are built for it, or what has been built.

    Returns:
        Triples (key, problem, remedy); empty if nothing is certainly wrong.
    """
    parts = config_or_parts
    if not isinstance(parts, Parts):
        parts = parts_of_config(parts)
    found = list(parts.broken)
    # models of 3D poses and the like have other rules
    if isinstance(parts.model, TopdownPoseEstimator | BottomupPoseEstimator):
        for check in (check_joints, check_codecs, check_sizes, check_test_cfg, check_metrics):
            found += check(parts)
    found += check_best(parts)
    return list(dict.fromkeys(found))
