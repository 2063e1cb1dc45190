"""A whole model in half precision (bf16-true), on a CPU."""

from fusionconv.study import Study


def test_arms_train_in_bfloat16(small, tmp_path) -> None:
    study = Study(**{**small, "epochs": 1, "trainer": {"precision": "bf16-true", "accelerator": "cpu"}})
    table = study.compare(["image", "hybrid@first"], folds=2, out=tmp_path / "runs").table
    assert list(dict.fromkeys(table["arm"])) == ["image", "hybrid-first"]
    assert table["mean"].notna().all() if "mean" in table else len(table) > 0
