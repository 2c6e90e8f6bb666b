"""Dite-HRNet: Li et al., IJCAI 2022, doi 10.24963/ijcai.2022/153."""

from .network import DiteHRNet

__all__ = ['DiteHRNet']
