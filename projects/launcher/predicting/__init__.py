"""What ``tools/predict.py`` does once its arguments are read: a trained model on pictures without annotations."""
