"""The universal refiner on result files of any task, as a refining step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from pnm.formats.fetched_files import sha256_of
from pnm.masks.crops import MaskCrop
from pnm.network_backends.choice import check_backend
from pnm.object_refinement.decision import DEFAULT_STRENGTH, decision_of
from pnm.object_refinement.trained_weights import DEFAULT_WEIGHTS, weights_file
from pnm.pictures.pictures import Toning
from pnm.pictures.rgb_files import read_rgb
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.refinement_details import Detailed


@dataclass(frozen=True)
class UniversalSettings:
    """What a user says of the universal refiner, see :class:`pnm.object_refinement.refiner.Refiner`."""

    weights: str | Path = DEFAULT_WEIGHTS
    strength: float = DEFAULT_STRENGTH
    keep_topology: bool = False
    device: str = "cpu"
    toning: Toning = field(default_factory=Toning)
    backend: str = "torch"

    def check(self) -> None:
        """Reads what can be read without torch; fetches weights.

        Raises:
            FileNotFoundError, UserError: weights that cannot be had, another strength or backend.
        """
        check_backend(self.backend, "--backend", self.device)
        decision_of(self.strength)
        weights_file(self.weights)


class UniversalStep:
    """A refining step, see :class:`pnm.predictions.refinement.Step`; torch is imported when it is first needed."""

    def __init__(self, settings: UniversalSettings):
        settings.check()
        self.settings = settings
        self.read = _Reader(settings.toning)

    @cached_property
    def refiner(self):  # type: ignore[no-untyped-def]
        """A :class:`pnm.object_refinement.refiner.Refiner`."""
        from pnm.object_refinement.refiner import Refiner

        own = self.settings
        return Refiner(
            own.weights,
            strength=own.strength,
            device=own.device,
            backend=own.backend,
            keep_topology=own.keep_topology,
        )

    @cached_property
    def named_settings(self) -> dict[str, str]:
        """What its masks depend on, by the options that a user gives; of weights the digest."""
        own = self.settings
        return {
            "--weights": sha256_of(weights_file(own.weights)),
            "--strength": str(own.strength),
            "--keep-topology": str(own.keep_topology),
            "--bands": str(own.toning.bands),
            "--stretch": str(own.toning.stretch),
            "--backend": own.backend,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights' bytes and the settings."""
        own = self.settings
        weights = sha256_of(weights_file(own.weights))
        settings = f"strength {own.strength} topology {own.keep_topology} {own.toning}"
        return f"universal {weights} {settings}{'' if own.backend == 'torch' else f' {own.backend}'}"

    def prepare(self) -> None:
        """Loads the network; a UserError if it can't be had, or put on its device."""
        self.refiner  # noqa: B018

    def refine(self, image: np.ndarray, prediction: Objects | Partition) -> list[MaskCrop] | np.ndarray:
        """A prediction of that image, refined as its writer takes it."""
        return self.refine_detailed(image, prediction).refined

    def refine_detailed(self, image: np.ndarray, prediction: Objects | Partition) -> Detailed:
        """As :meth:`refine`, with how sure it is."""
        if isinstance(prediction, Partition):
            return Detailed(*self.refiner.refine_segments(image, prediction.labels, prediction.segments))
        if not len(prediction):  # whose size may be unknown
            return Detailed([], {})
        refined = self.refiner.refine_objects(image, _of_image(image, prediction))
        return Detailed([one.crop for one in refined], {n: one.confidence for n, one in enumerate(refined)})


@dataclass(frozen=True)
class _Reader:
    """Reads images; equal ones read alike, so that steps share what they read."""

    toning: Toning

    def __call__(self, image_file: Path) -> np.ndarray:
        return read_rgb(image_file, self.toning)


def _of_image(image: np.ndarray, prediction: Objects) -> Sequence[MaskCrop]:
    from pnm.object_refinement.accepted_inputs import check_size

    check_size(image, prediction.size, "its masks are")
    return prediction.masks
