"""What a family's cells are called, and what fits."""

import pytest

from tailrace.fpga.families import FAMILIES, lut_sites, map_twice


def test_cells_are_counted_by_what_a_data_sheet_calls_them() -> None:
    counted = {"LUT1": 1, "LUT6": 2, "INV": 4, "FDRE": 8, "FDSE": 16, "DSP48E1": 32, "RAMB18E1": 64, "SRL16E": 128, "BUFG": 256}
    cells = FAMILIES["xc7"].count(counted)
    assert cells == {
        "LUT": 7,
        "LUT sites": 5,
        "flip-flops": 24,
        "CARRY4": 0,
        "LUT RAM": 128,
        "RAMB36": 0,
        "RAMB18": 64,
        "DSP48E1": 32,
    }


def test_what_does_not_fit_is_named() -> None:
    ecp5 = FAMILIES["ecp5"]
    fits = {
        "LUT4": 60000,
        "flip-flops": 83640,
        "carry pairs": 5000,
        "distributed RAM": 2000,
        "block RAM": 208,
        "multipliers": 156,
    }
    assert ecp5.excess(fits) == {}
    assert ecp5.excess({**fits, "carry pairs": 7000, "multipliers": 157}) == {"LUT4": (86000, 83640), "multipliers": (157, 156)}
    assert FAMILIES["xcup"].excess(dict.fromkeys(FAMILIES["xcup"].cells, 10**9)) == {}


@pytest.mark.parametrize(
    ("counted", "sites"),
    [
        ({"LUT6": 3, "LUT5": 2, "LUT1": 4}, 7),
        ({"LUT4": 3, "LUT1": 2, "INV": 2}, 4),
        ({"LUT3": 5, "LUT2": 3}, 5),
        ({"LUT3": 2, "LUT2": 5}, 4),
        ({"LUT4": 1, "LUT3": 1, "LUT1": 3}, 3),
        ({}, 0),
    ],
)
def test_luts_of_at_most_five_inputs_share_a_site(counted: dict[str, int], sites: int) -> None:
    assert lut_sites(counted) == sites


def test_commands_of_abc_are_one_word() -> None:
    """Yosys takes a comma for a space there."""
    assert map_twice(900).split(" ", 3)[:3] == ["scratchpad", "-set", "abc9.script"]
    assert map_twice(900).count(" ") == 3
    assert map_twice(900).count("&if,-W,900") == 2
