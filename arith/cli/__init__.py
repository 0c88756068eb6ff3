"""The command line: `arith generate`, `check`, `score`, `bench`, `operators` and `schema`."""

import errno
import sys


def main() -> None:
    """The entry point of the `arith` program."""
    try:
        # Inside, because Ctrl-C may come while it is imported.
        from arith.cli.app import app

        app()
    except OSError as error:  # of the help texts; commands tell their own
        if error.errno != errno.ENOSPC:
            raise
        from arith.cli.failures import drop_output

        drop_output()
        print("error: no space left on device", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
