"""The command line: `gradtx compare`, or `python -m gradtx.compare`."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence

from gradtx.foreign import version

from .interrupt import CtrlC

_NEEDED = ("equinox", "jinja2", "matplotlib", "rich", "sklearn")

_EXAMPLES = """\
examples:
  gradtx compare
  gradtx compare rosenbrock pendulum --optimizers adam "adam(b1=0.95)" nesterov
  gradtx compare logistic --batch-size full --learning-rates 1e-3:10:9
  gradtx compare --optimizers "ema(adam(), 0.99)" adamw --sweep b1=0.8,0.9,0.95
  gradtx compare text-gru --schedule warmup-cosine --seeds 5 --output results/text
  gradtx compare --suite small --output results/all
  gradtx compare --from results/text results/other --output results/both --open
"""


_TRAINING = (
    *("problems", "suite", "optimizers", "learning_rates", "sweep", "schedule", "batch_size"),
    *("steps", "seeds"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (nothing ran), 2 (bad input), 130 (Ctrl-C)."""
    with CtrlC() as ctrl_c:
        try:
            return _main(sys.argv[1:] if argv is None else argv, ctrl_c)
        except KeyboardInterrupt:
            print("gradtx compare: interrupted before anything was trained", file=sys.stderr)
            return 130


def _main(argv: Sequence[str], ctrl_c: CtrlC) -> int:
    options = _options(argv)
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

    return compare(options, ctrl_c)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    top, compare = _parsers()
    if argv[:1] != ["compare"]:
        top.parse_args(argv)
    # Not by the outer parser, whose usage it would show, and with problems also after options.
    options = compare.parse_intermixed_args(argv[1:])
    given = [
        name if name == "problems" else f"--{name.replace('_', '-')}"
        for name in _TRAINING
        if (getattr(options, name) or None) != compare.get_default(name)
    ]
    if options.results and given:
        compare.error(f"--from trains nothing: leave out {', '.join(given)}")
    if options.suite and options.problems:
        compare.error("--suite has problems of its own: leave yours out")
    options.output_given = options.output is not None
    options.output = options.output or "gradtx-compare"
    return options


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The outer one, and that of `compare`."""
    parser = argparse.ArgumentParser(
        prog="gradtx", description="Gradient transformations for JAX.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"gradtx {version()}")
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
        "--suite",
        metavar="NAME",
        help="small: all problems, the long ones shortened, in some minutes",
    )
    add(
        "--optimizers",
        nargs="+",
        metavar="NAME",
        help='names or calls such as "ema(adam(b1=0.95), 0.99)", without a learning rate, or "all" '
        "(default: the eight classics, and lbfgs where the batch is the whole problem)",
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
        metavar="N",
        help="number of seeds (default: 12, which can tell the best of 100 optimizers from the "
        "others; 6 can tell two apart)",
    )
    add(
        "--output",
        metavar="FOLDER",
        help="where the report goes (default: gradtx-compare, or where --from found the results)",
    )
    add(
        "--from",
        nargs="+",
        dest="results",
        metavar="RESULTS",
        help="make the report of results.json again without training; several are put together",
    )
    add("--open", action="store_true", help="show the report in the browser")
    add("--list", action="store_true", help="say which problems and optimizers there are")
    return parser, compare
