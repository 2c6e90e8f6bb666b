"""Mutated files through every door by which files from outside come in, for a stated time.

Exit status: 0, or 1 if there was a crash, a hang, too much memory or an exception that is not
documented; its file and details are kept, with the command that repeats it.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from .engine import judge, run, table


def main() -> int:
    parser = argparse.ArgumentParser(prog='fuzz', description=__doc__)
    add = parser.add_argument
    add('--seconds', type=float, default=60, help='how long (default: 60)')
    add('--seed', type=int, default=0, help='of the mutations (default: 0)')
    add('--first', type=int, default=0, help='number of the first case of each door (default: 0)')
    add('--door', nargs='+', metavar='NAME', help='only these (default: all)')
    add('--file', type=Path, help='only this file, which is kept, through one door')
    add('--out', type=Path, default=Path('fuzz_output'), help='folder for findings')
    args = parser.parse_args()

    from .doors import make_doors  # takes seconds

    with TemporaryDirectory() as folder:
        doors = make_doors(Path(folder))
        unknown = set(args.door or ()) - doors.keys()
        if unknown or (args.file and len(args.door or ()) != 1):
            parser.error(f'--door is {", ".join(doors)}; --file needs one of them')
        chosen = [doors[name] for name in args.door or doors]
        if args.file:
            verdict = judge(chosen[0], args.file)
            print(f'{verdict.kind}: {verdict.detail}')
            print(f'{verdict.seconds:.1f} s, {verdict.peak / 1e6:.0f} MB')
            return int(verdict.bad)
        tallies = run(chosen, args.seconds, args.seed, args.out, args.first)
    print(table(tallies))
    findings = [
        f'{what}\n  make fuzz ARGS="{repeat}"'
        for tally in tallies.values()
        for what, repeat in tally.findings.items()
    ]
    print(f'\nseed {args.seed}: {len(findings)} findings', *findings, sep='\n')
    return int(bool(findings))


if __name__ == '__main__':
    sys.exit(main())
