import sys

from .cli import main

sys.exit(main(["compare", *sys.argv[1:]]))
