"""A refining step for tests."""


class Gives:
    """Gives what a function makes of the prediction, which it keeps."""

    fingerprint = "f"

    def __init__(self, make):
        self.make = make

    def read(self, image_file):
        return None

    def refine(self, content, prediction):
        self.prediction = prediction
        return self.make(prediction)
