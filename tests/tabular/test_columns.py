"""Names that are not there, nearly there, or there twice."""

import pandas as pd
import pytest

from fusionconv.errors import TableError
from fusionconv.tabular import CELEBA_ATTRIBUTES, require_columns, require_names


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Smilling", "Smiling"),
        ("MALE", "Male"),
        ("high cheekbones", "High_Cheekbones"),
        ("5_oclock_shadow", "5_o_Clock_Shadow"),
    ],
)
def test_the_nearest_attribute_is_named(typed, meant):
    with pytest.raises(TableError, match=rf"unknown attribute '{typed}'; did you mean '{meant}'\?"):
        require_names(["Young", typed], CELEBA_ATTRIBUTES, what="attribute")


def test_where_nothing_is_near_all_known_names_are_listed():
    with pytest.raises(TableError, match=r"table.csv: unknown column 'weight'\. Expected one of: age, sex$"):
        require_columns(pd.DataFrame({"age": [1], "sex": [0]}), ["weight"], where="table.csv")
    with pytest.raises(TableError, match=r"unknown column 'a'\. Expected one of: x0, x1, .*\(300 in all\)$"):
        require_names(["a"], [f"x{i}" for i in range(300)])
    with pytest.raises(TableError, match="there are none"):
        require_columns(pd.DataFrame(), ["age"])


def test_columns_that_are_there_once_pass_and_others_may_be_there_twice():
    frame = pd.DataFrame([[1, 2, 3]], columns=["age", "note", "note"])
    require_columns(frame, ["age"])
    with pytest.raises(TableError, match="got several of the name 'note'"):
        require_columns(frame, ["age", "note"])


@pytest.mark.parametrize("thing", [[[1, 2]], {"age": [1]}, pd.Series([1], name="age"), None])
def test_what_is_no_table_is_named(thing):
    with pytest.raises(TableError, match=f"expected a pandas DataFrame .* got {type(thing).__name__}"):
        require_columns(thing, ["age"])


def test_columns_named_by_numbers_are_no_text_names():
    with pytest.raises(TableError, match="unknown column '0'"):
        require_columns(pd.DataFrame([[1, 2]]), ["0"])
