"""One page a paper: networks, losses and players put together. `SYSTEMS` is a plain dict of the pages.

A module in this folder that defines `PAGE` is a system, under its own name: adding one means adding a file.
"""

import importlib
import pkgutil

from jaxpaint.train.system import Page

SYSTEMS: dict[str, Page] = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").PAGE
    for module in pkgutil.iter_modules(__path__)
    if not module.name.startswith("_")
}
