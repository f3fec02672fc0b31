"""usnet-serve: read the options, then serve; `--check` only says what would be done, and exits as starting would.

Exit codes: 0 stopped cleanly, 2 wrong usage, 3 could not start. A failure is one line on stderr.

Almost everything is imported by `main`, when signals are heard already: process 1 of a container loses those that come
before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial

from usnet_framework import inherited
from usnet_framework.errors import InUse, UsnetError


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    inherited.end_on_signals()
    try:
        inherited.reset()
        return _main(sys.argv[1:] if argv is None else argv)
    except UsnetError as error:
        from usnet_framework import logs

        print(f"usnet-serve: {logs.one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    finally:
        inherited.ignore_signals()


def _main(argv: Sequence[str]) -> int:
    import logging

    from usnet_framework import logs, serving
    from usnet_framework.cli.output import show
    from usnet_framework.cli.plan import plan_text
    from usnet_framework.config import Config, unknown_variables

    read = partial(Config.from_command_line, argv, os.environ)
    config = read()
    warnings = unknown_variables(os.environ)
    if config.check:
        text, in_use = plan_text(config, warnings)
        show(text)
        if in_use:
            raise InUse(in_use[0])
        return 0
    logs.configure(config.log_level, config.log_format, "supervisor")
    for warning in warnings:
        logging.getLogger("usnet.serve").warning(warning)
    return serving.run(config, read)
