"""The report as one HTML file that needs nothing else."""

import base64
from collections.abc import Mapping
from html import escape

import cv2
import numpy as np

from .report import Report, Section, Table

_STYLE = """
body {font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2em auto; padding: 0 1em;
      color: #222; background: #fff}
table {border-collapse: collapse; margin: 1em 0}
caption {text-align: left; font-weight: 600; padding: 0.2em 0}
td, th {padding: 0.15em 0.8em; border-bottom: 1px solid #ddd; text-align: right}
td:first-child, th:first-child {text-align: left; white-space: pre}
li {overflow-wrap: anywhere}
.wrong {border-left: 4px solid #d04437; background: #fdf0ee; padding: 0.6em 1em}
.fine {border-left: 4px solid #4a9d5b; background: #eff8f0; padding: 0.6em 1em}
.note {color: #555}
img {max-width: 100%; height: auto; border: 1px solid #ddd}
.tables {display: flex; flex-wrap: wrap; gap: 0 3em; align-items: flex-start}
"""


def page(report: Report, sheets: Mapping[str, np.ndarray]) -> str:
    """HTML with the contact sheets of the sections that have one inside."""
    wrong = report.problems
    verdict = (
        f'<p class="wrong">{len(wrong)} thing(s) are wrong.</p>'
        if wrong
        else '<p class="fine">Nothing is wrong.</p>'
    )
    body = ''.join(_section(section, sheets.get(section.name)) for section in report.sections)
    title = f'Data sets of {escape(report.config)}'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{title}</title><style>{_STYLE}</style></head>'
        f'<body><h1>{title}</h1>{verdict}{body}</body></html>\n'
    )


def _section(section: Section, sheet: np.ndarray | None) -> str:
    parts = [f'<h2>{escape(section.name)}</h2>']
    if section.problems:
        items = ''.join(f'<li>{escape(problem)}</li>' for problem in section.problems)
        parts.append(f'<div class="wrong"><b>Wrong</b><ul>{items}</ul></div>')
    if section.notes:
        items = ''.join(f'<li>{escape(note)}</li>' for note in section.notes)
        parts.append(f'<ul class="note">{items}</ul>')
    parts.append(f'<div class="tables">{"".join(map(_table, section.tables))}</div>')
    if sheet is not None:
        data = base64.b64encode(cv2.imencode('.jpg', sheet)[1].tobytes()).decode()
        parts.append(
            '<p class="note">Orange is left, blue is right, green has no partner, a ring is a '
            'hidden keypoint; after a flip left must still be the left of the object. Purple: the '
            'loss does not count there.</p>'
            f'<img alt="annotation, input and targets" src="data:image/jpeg;base64,{data}">'
        )
    return ''.join(parts)


def _table(table: Table) -> str:
    head = ''.join(f'<th>{escape(cell)}</th>' for cell in table.head)
    rows = ''.join(
        '<tr>' + ''.join(f'<td>{escape(cell)}</td>' for cell in row) + '</tr>' for row in table.rows
    )
    return f'<table><caption>{escape(table.title)}</caption><tr>{head}</tr>{rows}</table>'
