"""`python -m arith` is the program `arith`."""

from arith.cli import main

if __name__ == "__main__":
    main()
