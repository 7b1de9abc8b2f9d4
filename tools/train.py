"""``pnm train``, which is ``python train_net.py`` in a clone."""

from pnm.errors import one_line_errors
from pnm.projects.launcher.arguments import parse_args


def main() -> None:
    with one_line_errors():
        args = parse_args()
    from pnm.projects.launcher.main import start  # takes seconds: not before the arguments are known to be right

    start(args)
