"""What ``train_net.py`` is made of: ordinary Detectron2 plug-ins that run on either engine."""
