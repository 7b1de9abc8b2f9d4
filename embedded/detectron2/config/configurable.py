"""The ``@configurable`` decorator: a constructor with plain arguments that also takes a config."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from fvcore.common.config import CfgNode

__all__ = ["configurable"]


def _gives_config(args: tuple, kwargs: dict) -> bool:
    return isinstance(args[0] if args else kwargs.get("cfg"), CfgNode)


def _explicit_arguments(from_config: Callable[..., dict], args: tuple, kwargs: dict) -> dict:
    """Runs ``from_config`` on the arguments it accepts; the other keywords override what it returns."""
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        raise TypeError(f"{from_config.__qualname__} must take 'cfg' as its first argument")
    kinds = {parameter.kind for parameter in parameters.values()}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        return from_config(*args, **kwargs)
    accepted = {name: value for name, value in kwargs.items() if name in parameters}
    overrides = {name: value for name, value in kwargs.items() if name not in parameters}
    return from_config(*args, **accepted) | overrides


def _configurable_init(init: Callable) -> Callable:
    @wraps(init)
    def wrapped(self, *args: Any, **kwargs: Any) -> None:
        translate = getattr(type(self), "from_config", None)
        if translate is None:
            raise AttributeError(f"{type(self).__name__} has a @configurable __init__ and needs a from_config method")
        if not inspect.ismethod(translate):
            raise TypeError(f"{type(self).__name__}.from_config must be a classmethod")
        if _gives_config(args, kwargs):
            args, kwargs = (), _explicit_arguments(translate, args, kwargs)
        init(self, *args, **kwargs)

    return wrapped


def _configurable_function(function: Callable, translate: Callable[..., dict]) -> Callable:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if _gives_config(args, kwargs):
            args, kwargs = (), _explicit_arguments(translate, args, kwargs)
        return function(*args, **kwargs)

    wrapped.from_config = translate
    return wrapped


def configurable(init_func: Callable | None = None, *, from_config: Callable[..., dict] | None = None) -> Callable:
    """Lets ``__init__`` (or a function) be called with a config that is translated into its arguments.

    On ``__init__``, the class's ``from_config(cls, cfg, ...)`` classmethod returns the keyword arguments. On
    a function, ``@configurable(from_config=lambda cfg: {...})`` does. In both cases the call may be
    ``f(cfg, **overrides)`` or an ordinary one.

    Raises:
        TypeError: decorating anything but an ``__init__`` without giving ``from_config``.
    """
    if init_func is None and from_config is None:
        return configurable
    if init_func is None:
        if not inspect.isfunction(from_config):
            raise TypeError(f"from_config must be a function, got {from_config!r}")
        return lambda function: _configurable_function(function, from_config)
    if from_config is not None or getattr(init_func, "__name__", "") != "__init__":
        raise TypeError("@configurable without arguments goes on __init__; on a function give from_config=...")
    return _configurable_init(init_func)
