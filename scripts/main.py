"""`bellmark`: the command line. One file per command; a command is imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

from ..agents.core.errors import BellmarkError, UnknownName
from .outcome import FAILED, INTERRUPTED, USAGE_ERROR, UsageError, discard

COMMANDS = {
    "train": ("train AGENT", "train an agent in an environment"),
    "fit": ("fit AGENT", "train an agent on recorded data, and then online if you like"),
    "data": ("data DATA", "what a data set holds, and what is odd about it"),
    "evaluate": ("evaluate RUN", "run whole episodes with a trained agent and state its score"),
    "collect": ("collect RECIPE", "record agents as a data set, after D4RL's recipes"),
    "ope": ("ope RUN", "judge a run's checkpoints by recorded data, and how well that ranks them"),
    "resume": ("resume RUN", "go on with a run that was interrupted"),
    "rerun": ("rerun RUN", "repeat a run from its manifest and compare every number"),
    "compare": ("compare WHO ...", "run agents over seeds, or read runs, and compare them with intervals"),
    "agents": ("agents", "list all agents"),
    "explain": ("explain AGENT", "its equations, settings, papers and departures"),
    "export": ("export RUN", "write a policy as an ONNX file, or as a model of stable-baselines3"),
    "doctor": ("doctor ENV", "check an environment of your own before training in it"),
    "plot": ("plot RUN ...", "draw learning curves and other metrics of runs"),
    "bench": ("bench", "measure our speed beside other libraries', on the same work"),
}
TRACEBACK = "BELLMARK_TRACEBACK"


def usage() -> str:
    lines = ["usage: bellmark COMMAND ...", "", "Deep reinforcement learning: train, fit, evaluate.", "", "commands:"]
    lines += [f"  {form:<15} {text}" for form, text in COMMANDS.values()]
    lines += ["", "`bellmark COMMAND --help` says more; `bellmark train AGENT --help` lists that agent's settings."]
    return "\n".join([*lines, "`--traceback` shows where an error came from."])


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0 done, 1 failed, 2 wrong command line, 130 interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    traceback = bool(os.environ.get(TRACEBACK)) or "--traceback" in argv
    argv = [word for word in argv if word != "--traceback"]
    try:
        return command(argv)(argv)
    except SystemExit as exit:  # tyro has said what was wrong, or has shown its help
        return exit.code if isinstance(exit.code, int) else USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # as `head` leaves it
        discard(sys.stdout)
        return FAILED
    except BellmarkError as error:
        if traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR if isinstance(error, UsageError) else FAILED
    except OSError as error:
        if traceback or not error.filename:
            raise
        print(f"error: cannot use {error.filename}: {error.strerror}", file=sys.stderr)
        return FAILED


def command(argv: list[str]) -> Callable[[list[str]], int]:
    """What the first word asks for."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        return show_usage
    if argv[0] == "--version":
        return show_version
    if argv[0] not in COMMANDS:
        raise UsageError(str(UnknownName("command", argv[0], COMMANDS)))
    return importlib.import_module(f".{argv[0]}", __package__).main


def show_usage(argv: list[str]) -> int:
    print(usage())
    return 0 if argv else USAGE_ERROR


def show_version(argv: list[str]) -> int:
    from .. import __version__

    print(f"bellmark {__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
