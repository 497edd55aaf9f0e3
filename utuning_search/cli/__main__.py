"""`python -m utuning_search.cli`: the command line where the script that pip made is not on the PATH."""

import sys

from utuning_search.cli import main

if __name__ == "__main__":
    sys.exit(main())
