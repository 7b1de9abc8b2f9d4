"""A table of the instances in one image: columns are fields, rows are instances."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch


class Instances:
    """Fields of equal length for one image (``gt_boxes``, ``scores``, ``pred_masks``, …).

    Fields are read and set as attributes; names starting with an underscore are ordinary attributes.
    Indexing selects rows of every field at once.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any):
        """
        Args:
            image_size: (height, width) of the image.
            kwargs: initial fields.
        """
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)."""
        return self._image_size

    def __setattr__(self, name: str, val: Any) -> None:
        if name[0] == "_":
            object.__setattr__(self, name, val)
        else:
            self.set(name, val)

    def __getattr__(self, name: str) -> Any:
        # Copying and unpickling ask for attributes before _fields exists.
        fields = self.__dict__.get("_fields", {})
        if name not in fields:
            raise AttributeError(f"these Instances have no field {name!r}; they have {sorted(fields)}")
        return fields[name]

    def set(self, name: str, value: Any) -> None:
        """Sets a field.

        Raises:
            ValueError: when its length differs from that of the other fields.
        """
        if self._fields and len(value) != len(self):
            raise ValueError(f"field {name!r} has {len(value)} rows, the Instances have {len(self)}")
        self._fields[name] = value

    def get_fields(self) -> dict[str, Any]:
        """The fields themselves, not a copy."""
        return self._fields

    def get(self, name: str) -> Any:
        return self._fields[name]

    def has(self, name: str) -> bool:
        return name in self._fields

    def remove(self, name: str) -> None:
        del self._fields[name]

    def _map(self, function) -> "Instances":
        """New Instances with ``function`` applied to every field."""
        return Instances(self._image_size, **{name: function(value) for name, value in self._fields.items()})

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """Calls ``to`` of every field that has it."""
        return self._map(lambda value: value.to(*args, **kwargs) if hasattr(value, "to") else value)

    def __getitem__(self, item: int | slice | torch.Tensor) -> "Instances":
        """Rows by integer (one row), slice, index vector or boolean vector.

        Raises:
            IndexError: for an integer out of range.
        """
        if type(item) is int:
            count = len(self)
            if not -count <= item < count:
                raise IndexError(f"instance {item} of {count}")
            item = slice(item % count, item % count + 1)
        return self._map(lambda value: value[item])

    def __len__(self) -> int:
        if not self._fields:
            raise NotImplementedError("Instances without fields have no length")
        return len(next(iter(self._fields.values())))

    def __iter__(self):
        raise NotImplementedError("Instances cannot be iterated: index them, or iterate over a field")

    @staticmethod
    def cat(instance_lists: Sequence["Instances"]) -> "Instances":
        """Appends the rows of Instances of one image; the fields of the first are kept.

        A list of one returns its element. Tensors, lists and types with a ``cat`` method can be joined.

        Raises:
            ValueError: for an empty list, different image sizes, or a field that cannot be joined.
        """
        if len({tuple(item.image_size) for item in instance_lists}) != 1:
            raise ValueError("Instances.cat needs at least one item, all of the same image size")
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        joined = Instances(first.image_size)
        for name in first.get_fields():
            joined.set(name, _join_columns(name, [item.get(name) for item in instance_lists]))
        return joined

    def __repr__(self) -> str:
        height, width = self._image_size
        columns = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return (
            f"{type(self).__name__}(num_instances={len(self)}, image_height={height}, "
            f"image_width={width}, fields=[{columns}])"
        )


def _join_columns(name: str, columns: list) -> Any:
    kind = type(columns[0])
    if isinstance(columns[0], torch.Tensor):
        return torch.cat(columns)
    if kind is list:
        return list(chain.from_iterable(columns))
    if not hasattr(kind, "cat"):
        raise ValueError(f"field {name!r} of type {kind.__name__} cannot be joined: it has no `cat`")
    return kind.cat(columns)
