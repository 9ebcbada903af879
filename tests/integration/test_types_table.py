"""docs/types.md: what it says of each type is what happens, in every setting."""

from __future__ import annotations

from tests.types_table import PAGE, Table


async def test_each_cell_of_the_table_of_types_is_true_in_every_setting() -> None:
    table = Table()
    assert table.text() in PAGE.read_text(), "python -m tests.types_table writes it anew"
    await table.try_all()
