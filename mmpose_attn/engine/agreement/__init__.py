"""Do data, network, codec and metric of a config agree? Everything that does not, at once.

MMPose has the number of keypoints, their order and the sizes of images and maps in half a dozen
places of a config, and compares none of them: what disagrees ends in an error of torch's, epochs
later in one of the metric's, or in a wrong result without any. Only what is certainly wrong is
reported; what is not known here (other heads, other codecs) is left alone.
"""

from .disagreement import Disagreement, DisagreementError
from .find import find_disagreements
from .parts import Data, Parts, parts_of_config, parts_of_model, parts_of_runner

__all__ = [
    'Data',
    'Disagreement',
    'DisagreementError',
    'Parts',
    'find_disagreements',
    'parts_of_config',
    'parts_of_model',
    'parts_of_runner',
]
