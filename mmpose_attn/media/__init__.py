"""Pictures, videos and streams from outside: known by their first bytes, and met with limits.

Nothing here imports the rest of the package, so that a process that only decodes starts quickly.
"""

from .kinds import Kind, sniff
from .limits import Limits, MediaError, UnreadKind
from .files import Picture, open_media
from .pictures import read_picture
from .videos import Shot, Video

__all__ = [
    'Kind',
    'Limits',
    'MediaError',
    'Picture',
    'Shot',
    'UnreadKind',
    'Video',
    'open_media',
    'read_picture',
    'sniff',
]
