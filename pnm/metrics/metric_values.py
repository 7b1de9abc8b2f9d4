"""What metrics give: means, and values of classes, apart."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


class MetricValues(dict[str, Any]):
    """Values of metrics by name.

    As a dict it has all of them, those of classes as ``<metric>-<class>``: what files and logs want. Whoever wants
    classes and means apart need not take names to pieces.

    Attributes:
        means: ``{metric: value}`` of the whole data set.
        by_class: ``{metric: {class name: value}}``.
    """

    def __init__(self, means: Mapping[str, Any], by_class: Mapping[str, Mapping[str, Any]]):
        self.means, self.by_class = dict(means), {metric: dict(row) for metric, row in by_class.items()}
        super().__init__(self.means)
        for metric, row in self.by_class.items():
            self.update({f"{metric}-{name}": value for name, value in row.items()})

    def __reduce__(self) -> tuple:
        return MetricValues, (self.means, self.by_class)

    def like(self, value_of: Callable[[str], Any]) -> "MetricValues":
        """The same metrics and classes with other values, given the name that the dict has for each."""
        return MetricValues(
            {name: value_of(name) for name in self.means},
            {m: {name: value_of(f"{m}-{name}") for name in row} for m, row in self.by_class.items()},
        )

    def map(self, function: Callable[[Any], Any]) -> "MetricValues":
        """The same metrics and classes, a function applied to each value."""
        return self.like(lambda name: function(self[name]))

    def joined(self, other: "MetricValues", prefix: str = "") -> "MetricValues":
        """With the metrics of another one, ``prefix`` before their names."""
        means, by_class = ({prefix + k: v for k, v in part.items()} for part in (other.means, other.by_class))
        return MetricValues(self.means | means, self.by_class | by_class)


def distinct_names(names: Sequence[str], ids: Iterable[int]) -> list[str]:
    """The names as they are, with the class's id behind those that several classes share."""
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} {number}" for name, number in zip(names, ids)]
