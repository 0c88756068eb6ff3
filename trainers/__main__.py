"""`accelerate launch -m trainers RECIPE.yaml`: the command `arith train`, for several processes."""

import sys

from arith.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["train"]
    main()
