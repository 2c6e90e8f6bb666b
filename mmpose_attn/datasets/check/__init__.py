"""The data sets of a config, checked whole, with what evaluator and codec make of them."""

from .check import PHASES, check_dataset
from .report import Report, Section, Table

__all__ = ['PHASES', 'Report', 'Section', 'Table', 'check_dataset']
