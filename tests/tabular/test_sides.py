import pandas as pd
import pytest

from fusionconv.tabular.sides import left_right_columns, mirroring_note

SAYS = [
    "side", "laterality", "hemisphere", "eye", "tumor_side", "TumorSide", "study_eye", "Eye", "side_of_body", "lh_thickness",
    "left_hippocampus", "HippocampusRight", "handedness", "breast", "Laterality.1", "seite",
]  # fmt: skip
SAYS_NOT = [
    "age", "sex", "site", "eye_color", "eyeglasses", "Bags_Under_Eyes", "Arched_Eyebrows", "side_effects", "residence",
    "inside", "lefty", "bright", "hand_grip", "smoking", "copyright",
]  # fmt: skip


@pytest.mark.parametrize("name", SAYS)
def test_names_that_say_left_or_right(name):
    assert left_right_columns(pd.DataFrame({"age": [1, 2], name: [1, 2]})) == [name]


@pytest.mark.parametrize("name", SAYS_NOT)
def test_names_that_do_not(name):
    assert left_right_columns(pd.DataFrame({name: [1, 2]})) == []


@pytest.mark.parametrize(
    "values", [["L", "R"], ["left", "right", None], ["OD", "OS", "OU"], ["Left", "RIGHT", "bilateral"], [" l", "r "]]
)
@pytest.mark.parametrize("dtype", [object, "category"])
def test_values_that_say_left_or_right(values, dtype):
    frame = pd.DataFrame({"where": pd.Series(values, dtype=dtype)})
    assert left_right_columns(frame) == ["where"]


@pytest.mark.parametrize("values", [["M", "F"], ["L", "M", "S"], ["left", "up"], ["R", "R"], [0, 1], [None, None], []])
def test_values_that_do_not(values):
    assert left_right_columns(pd.DataFrame({"where": values})) == []


def test_the_note_names_the_columns_and_the_way_out():
    assert mirroring_note([], "--augment none") is None
    note = mirroring_note(["side", "eye"], "--augment none")
    assert "side, eye say left or right" in note
    assert note.endswith("Give --augment none")
