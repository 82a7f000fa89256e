"""The command line: `gradtx compare`, or `python -m gradtx.compare`."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence

_NEEDED = ("equinox", "matplotlib", "rich", "sklearn")

_EXAMPLES = """\
examples:
  gradtx compare
  gradtx compare rosenbrock pendulum --optimizers adam "adam(b1=0.95)" nesterov
  gradtx compare logistic --batch-size full --learning-rates 1e-3:10:9
  gradtx compare --optimizers "ema(adam(), 0.99)" adamw --sweep b1=0.8,0.9,0.95
  gradtx compare text-gru --schedule warmup-cosine --seeds 5 --output results/text
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (nothing ran), 2 (bad input), 130 (Ctrl-C)."""
    options = _parser().parse_args(argv)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        packages = ", ".join(missing).replace("sklearn", "scikit-learn")  # as pip calls it
        print(
            f"gradtx compare needs {packages}, which this Python lacks: "
            'pip install "gradtx[compare]"',
            file=sys.stderr,
        )
        return 2
    from .command import compare  # all the rest needs what was just looked for

    return compare(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradtx", description="Gradient transformations for JAX.", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="compare")
    compare = commands.add_parser(
        "compare",
        help="compare optimizers on real training problems",
        description="Train every optimizer with many learning rates and seeds at once, and write "
        "a report: which optimizer, with which learning rate, for which problem.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = compare.add_argument
    add("problems", nargs="*", metavar="problem", help='names, or "all" (default: digits-mlp)')
    add(
        "--optimizers",
        nargs="+",
        metavar="NAME",
        help='names or calls such as "ema(adam(b1=0.95), 0.99)", without a learning rate, or "all" '
        "(default: the eight classics)",
    )
    add(
        "--learning-rates",
        nargs="+",
        metavar="RATE",
        help="numbers, or LOW:HIGH:N evenly in the logarithm (default: around each optimizer's "
        "typical one)",
    )
    add(
        "--sweep",
        nargs="+",
        action="extend",
        metavar="NAME=V1,V2",
        help="values of another hyperparameter, each of them an optimizer of its own",
    )
    add(
        "--schedule",
        default="constant",
        metavar="NAME",
        help="constant, cosine, warmup-cosine, linear or wsd; the rate is its peak",
    )
    add("--batch-size", metavar="N", help='examples per step, or "full" (default: the problem\'s)')
    add("--steps", metavar="N", help="training steps (default: the problem's)")
    add(
        "--seeds",
        default="12",
        metavar="N",
        help="number of seeds (default: 12; fewer than 6 tell no two optimizers apart)",
    )
    add(
        "--output",
        default="gradtx-compare",
        metavar="FOLDER",
        help="where the report goes (default: gradtx-compare)",
    )
    add("--list", action="store_true", help="say which problems and optimizers there are")
    return parser
