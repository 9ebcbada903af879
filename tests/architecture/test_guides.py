"""The Python of the guides runs as it stands: the blocks of each, one after the other, are a program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
TIMEOUT_S = 60

# Guide → what its program prints.
GUIDES = {
    "compute-methods.md": "<pre>"
    + "\n".join(f"{euros}.00 EUR" for euros in range(1, 10))
    + "</pre>\n\n<pre>"
    + "\n".join(f"{euros * 1.1:.2f} USD" for euros in range(1, 10))
    + "</pre>\n1.10 True\n",
    "events.md": "20\nOrderPlaced bob 3 Mails.on_order: ConnectionError: the mail server is down\nmail for bob\n10\n",
    "middleware.md": "→ Products.total(1, 3)\n→ Products.price(1)\n← 10\n← 30\n→ Products.set_price(1, 11)\n← None\n"
    "Products.price 1 0 True\nProducts.total 5 0 True\n"
    "Products.price in Products.total\nProducts.total in GET /carts/c1\nGET /carts/c1 in nothing\n"
    "['Carts.*']\n"
    "PermissionDenied Products.set_price is not permitted\nPermissionDenied Products.total is not permitted\n"
    "Orders: the orders of ann\nOrders: the orders of bob\n"
    "1.1\n",
    "operations.md": "0 1 1\n3\nTrue True 1\n"
    "Tills.place_one_by_one has committed an operation already, and a second one would not be atomic with it\n",
    "services.md": "['buy honey', 'wash up']\na minute ago\nann, you came just now\n",
    "simulation.md": "20\n",
    "types.md": "",
}


@pytest.mark.parametrize("name", GUIDES)
def test_the_code_of_a_guide_runs(name: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((ROOT / "docs" / name).read_text())
    assert blocks
    program = tmp_path / "guide.py"
    program.write_text("\n".join(blocks))
    command = [sys.executable, "-W", "error", str(program)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == GUIDES[name]
