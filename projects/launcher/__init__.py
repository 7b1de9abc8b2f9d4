"""What ``train_net.py`` and the programs of ``tools/`` are made of: ordinary Detectron2 plug-ins on either engine."""

import warnings

warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # of fvcore, at import
