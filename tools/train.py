"""``pnm train``, which is ``python train_net.py`` in a clone."""

from pnm.errors import interrupts_told, one_line_errors
from pnm.projects.launcher.arguments import parse_args


def main() -> None:
    with interrupts_told("checkpoints are whole; add --resume to go on from the last one"):
        with one_line_errors():
            args = parse_args()
        from pnm.projects.launcher.main import start  # takes seconds: not before the arguments are known to be right

        start(args)
