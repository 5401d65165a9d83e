"""Host and device told apart where there is no device, as a context: `with DeviceFlow():`.

Tensors stay real ones of the host, so that values, autograd and optimizers are real; a mark says of each storage
whether it stands for one of the device (`tests.device.places`). To the product the marked are on `DEVICE`, a GPU:
`tensor.device` says so, and `device=`, `.to` and `.cpu` lead there and back. Two modes of torch see to it. The
function mode sees what Python code asks for, and names the device to torch by a number of the host's own, which
operations show and kernels ignore. The dispatch mode sees every operation, those of a backward too, marks what it
makes, and raises `Crossing`

- where host and device mix, be it by an index or a 0-d tensor;
- where the host reads what is on the device, or waits for it, outside of the functions that `crossings` names;
- where a copy to the host is read before it has arrived;
- `within_step`, where the host waits at all, be it for an upload that is not `non_blocking` or not of pinned memory;
  `crossings` may then send copies on their way, and upload what is made once.

torch's own Python code is told that the device is the host, or it would look for a GPU.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.device.frames import Crossing, here, running_function
from tests.device.places import HOST, Place, is_marked, mark, place_of
from tests.device.stand_ins import Autocast, Event, Generator
from tests.helpers.waiting import waits_for_the_device

DEVICE = torch.device("cuda", 0)
_TOLD_DEVICE, _TOLD_HOST = torch.device("cpu", 1), torch.device("cpu", 0)
"""What torch is told of the device, and of the host where code asks for it by name.

Without a number, `cpu` is anybody's default, and means the place of the other operands.
"""


class DeviceFlow:
    """See the module's docstring."""

    def __init__(self, crossings: Collection[str] = (), within_step: bool = False) -> None:
        """`crossings` are functions, `module.function` or `module.class.method`."""
        self.crossings, self.within_step = crossings, within_step
        self.crossed: set[str] = set()
        """Those of the crossings that read or waited."""
        self.launched = self.landed = 0
        """How many copies to the host and events were asked for, and up to which the host has waited."""
        self._default = HOST
        """Where torch makes what it needs for the operation that it is at."""
        self._modes = _Functions(self), _Operations(self)
        self._stack = ExitStack()

    def __enter__(self) -> DeviceFlow:
        functions, operations = self._modes
        run_backward = torch.autograd._engine_run_backward

        def backward(outputs: Any, *arguments: Any, **keywords: Any) -> Any:
            # A backward is a torch function, within which the mode is off, and runs functions of our own.
            with functions, self._making(place_of(outputs[0])):
                return run_backward(outputs, *arguments, **keywords)

        stand_ins = {
            "torch.autograd._engine_run_backward": backward,
            "torch.autocast": Autocast,
            "torch.Generator": Generator,
            "torch.cuda.Event": type("Event", (Event,), {"flow": self}),
        }
        for name, stand_in in stand_ins.items():
            self._stack.enter_context(mock.patch(name, stand_in))
        self._stack.enter_context(operations)
        self._stack.enter_context(functions)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    # What Python code asks for.

    def answer(self, function: Any, arguments: Any, keywords: Any, by_torch: bool) -> Any:
        """Return what a torch function gives; `by_torch` says who calls it."""
        if function in _GETTERS and place_of(arguments[0]).on_device:
            return _GETTERS[function][by_torch]
        if function is Tensor.is_pinned:
            return place_of(arguments[0]).pinned
        if function in _READERS:
            self._read(arguments[0], function.__name__)
        generator = keywords.get("generator")
        drawn = (
            arguments[0] if isinstance(generator, Generator) and isinstance(arguments[0], Tensor) else None
        )
        if drawn is not None and generator.on_device != place_of(drawn).on_device:
            raise Crossing(f"{function.__name__} draws on one side for the other{here()}")
        if function in _MOVES:
            return self._move(function, *arguments, by_torch=by_torch, **keywords)
        if function is torch.device:
            return torch.device(*arguments, **keywords)
        if function is Tensor.__deepcopy__:  # copies the bytes of a storage, of which no operation says where
            return arguments[1].setdefault(id(arguments[0]), arguments[0].detach().clone())
        pinned = keywords.get("pin_memory", False) or function is Tensor.pin_memory
        if pinned:
            keywords = {name: value for name, value in keywords.items() if name != "pin_memory"}
            function = Tensor.clone if function is Tensor.pin_memory else function
        arguments = [_told(value, by_torch) for value in arguments]
        keywords = {name: _told(value, by_torch) for name, value in keywords.items()}
        given = _tensors((arguments, keywords))
        with self._making(_common(given)):
            found = function(*arguments, **keywords)
        for tensor in _tensors(found):
            if pinned:
                mark(tensor, Place(pinned=True))
            elif function in (torch.tensor, torch.as_tensor) and keywords.get("device") == _TOLD_DEVICE:
                self._upload(function.__name__, HOST, non_blocking=False)  # done where no mode sees it
                mark(tensor, Place(on_device=True))
            elif not is_marked(tensor):  # made where no mode sees it
                mark(tensor, _common(given))
        return found

    def _move(
        self, function: Any, tensor: Tensor, *arguments: Any, by_torch: bool, **keywords: Any
    ) -> Tensor:
        """`to`, `cpu` and `cuda`: to the other side, or nowhere."""
        copy = keywords.pop("copy", False)
        if arguments and isinstance(arguments[0], Tensor):
            like, arguments = arguments[0], arguments[1:]
            device = _TOLD_DEVICE if place_of(like).on_device else _TOLD_HOST
            keywords |= {"device": device, "dtype": like.dtype}
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*arguments, **keywords)
        if function is not Tensor.to:
            device = _TOLD_HOST if function is Tensor.cpu else _TOLD_DEVICE
        device, before = _told(device, by_torch), place_of(tensor)
        stays = device is None or device.index is None or (device == _TOLD_DEVICE) == before.on_device
        options: dict[str, Any] = {"dtype": dtype, "non_blocking": non_blocking, "copy": copy}
        options |= {} if memory_format is None else {"memory_format": memory_format}
        options |= {} if stays else {"device": device}
        with self._making(before):
            return tensor.to(**options)

    def _read(self, tensor: Tensor, name: str) -> None:
        if place_of(tensor).on_device:
            if name not in ("tolist", "__repr__"):
                raise Crossing(f"{name}() of a tensor on the device{here()}")
            self.wait(name)
        self._check_arrived(tensor, name)

    # What is computed.

    def compute(self, function: Any, arguments: Any, keywords: Any) -> Any:
        """Return what an operation gives, marked."""
        name = function.name().removeprefix("aten::")
        given = _tensors((arguments, keywords))
        if name == "lift_fresh" and not is_marked(given[0]):
            mark(given[0], self._default)  # of numbers or of NumPy: neither lay anywhere
        target = _common(given) if given else self._default
        device = keywords.get("device")
        if device is not None and device.index is not None:
            target = Place(on_device=device == _TOLD_DEVICE)
        if name in ("copy_", "_to_copy"):
            where = place_of(given[0]) if name == "copy_" else target
            non_blocking = keywords.get("non_blocking", any(arguments[2:]))
            target = self._copy(name, place_of(given[-1]), where, non_blocking)
        elif len({place_of(tensor).on_device for tensor in given}) > 1:
            sides = [f"{list(one.shape)} on the {place_of(one)}" for one in given]
            raise Crossing(f"{name} mixes {', '.join(sides)}{here()}")
        elif target.on_device and waits_for_the_device(function, arguments):
            self.wait(name)
        if not function.is_view:
            for tensor in given:
                self._check_arrived(tensor, name)
        found = _ONLY_THERE.get(function, function)(*arguments, **keywords)
        if name == "copy_":
            mark(given[0], target)
            return found
        known = {tensor.untyped_storage()._cdata for tensor in given}
        for tensor in _tensors(found):
            if tensor.untyped_storage()._cdata not in known:
                mark(tensor, target)
        return found

    def _copy(self, name: str, source: Place, target: Place, non_blocking: bool) -> Place:
        """Return where a copy lies. Raises Crossing for one that must not be, or must not be awaited."""
        if target.on_device and not source.on_device:
            self._upload(name, source, non_blocking)
        if not source.on_device or target.on_device:
            return target
        if non_blocking and (target.pinned or name == "_to_copy"):
            self._cross(name)
            self.launched += 1
            return Place(pinned=True, arrives=self.launched)
        self.wait(name)
        return Place(pinned=target.pinned)

    def _upload(self, name: str, source: Place, non_blocking: bool) -> None:
        if self.within_step and not (non_blocking and source.pinned):
            self._cross(f"{name} to the device, not non_blocking or not of pinned memory,")

    def _cross(self, name: str) -> None:
        """Raise Crossing unless one of `crossings` is at work."""
        function = running_function()
        if function not in self.crossings:
            raise Crossing(f"{name} reads or awaits the device{here()}, which is no named crossing")
        self.crossed.add(function)

    def wait(self, name: str, until: int | None = None) -> None:
        """The host waits for what was launched, up to number `until`."""
        self._cross(name)
        if self.within_step:
            raise Crossing(f"{name} awaits the device within a step{here()}")
        self.landed = max(self.landed, self.launched if until is None else until)

    def _check_arrived(self, tensor: Tensor, name: str) -> None:
        if place_of(tensor).arrives > self.landed:
            raise Crossing(f"{name} reads a copy to the host that has not arrived{here()}; wait for an event")

    @contextmanager
    def _making(self, place: Place) -> Iterator[None]:
        before, self._default = self._default, Place(on_device=place.on_device)
        try:
            yield
        finally:
            self._default = before


class _Functions(TorchFunctionMode):
    def __init__(self, flow: DeviceFlow) -> None:
        self.flow = flow

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        caller = sys._getframe(1).f_globals["__name__"]
        if caller == "torch.utils.checkpoint":
            # It compares what it asks within other functions, where the mode is off, with what it asks outside.
            return function(*arguments, **(keywords or {}))
        by_torch = caller.partition(".")[0] == "torch"
        return self.flow.answer(function, arguments, keywords or {}, by_torch)


class _Operations(TorchDispatchMode):
    def __init__(self, flow: DeviceFlow) -> None:
        super().__init__()
        self.flow = flow

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            with self:  # those of inference come whole though they are made of others
                found = function.decompose(*arguments, **(keywords or {}))
            if found is not NotImplemented:
                return found
            return self.flow.compute(function, arguments, keywords or {})


_GETTERS: dict[Any, tuple[Any, Any]] = {
    Tensor.device.__get__: (DEVICE, _TOLD_DEVICE),
    getattr(Tensor.is_cuda, "__get__"): (True, False),  # noqa: B009
    getattr(Tensor.is_cpu, "__get__"): (False, True),  # noqa: B009
}
"""What a tensor on the device says of itself to the product and to torch."""
_ONLY_THERE = {torch.ops.aten.mm.dtype: lambda a, b, dtype: a.to(dtype) @ b.to(dtype)}
"""What computes here what only a GPU has."""
_READERS = (Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.tolist, Tensor.__repr__)
"""They read memory where no operation shows."""
_MOVES = (Tensor.to, Tensor.cpu, Tensor.cuda)


def _told(value: Any, by_torch: bool) -> Any:
    """Return what torch is told for a device, named or not; all else as it is."""
    if isinstance(value, str) and re.fullmatch(r"(cpu|cuda)(:\d+)?", value):
        value = torch.device(value)
    if not isinstance(value, torch.device) or (value.type == "cpu" and (by_torch or value.index is not None)):
        return value
    return {"cuda": _TOLD_DEVICE, "cpu": _TOLD_HOST}.get(value.type, value)


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in (nested) arguments or results."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for part in value for tensor in _tensors(part)]


def _common(tensors: list[Tensor]) -> Place:
    """Return the place of what is made of tensors."""
    return Place(on_device=any(place_of(tensor).on_device for tensor in tensors))
