"""Pairing by id: with real MONAI and TorchIO pipelines on images that say whose they are, and the field's own mistakes."""

import functools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler

from fusionconv.errors import TableError
from fusionconv.tabular import CovariateEncoder
from fusionconv.tabular.pairing import (
    CovariateDataset,
    CovariateTable,
    covariate_collate,
    covariate_items,
    images_by_id,
    pair_by_id,
    torchio_batch,
    torchio_subjects,
)

N = 7


def cohort(n=N) -> pd.DataFrame:
    """Subject k has age 50 + k, and an image full of k; rows are in no order, so that a row's place says nothing."""
    frame = pd.DataFrame({"subject": [f"s{k}" for k in range(n)], "age": 50.0 + np.arange(n), "sex": np.arange(n) % 2})
    frame["dx"] = np.where(np.arange(n) % 3 == 0, "AD", "CN")
    return frame.sample(frac=1, random_state=2).reset_index(drop=True)


@pytest.fixture
def encoder() -> CovariateEncoder:
    return CovariateEncoder(["age", "sex"]).fit(cohort())


@pytest.fixture
def volumes(tmp_path) -> pd.DataFrame:
    """The cohort with a NIfTI volume each, 10 x 9 x 8 voxels of the subject's number."""
    import nibabel

    frame = cohort()
    for subject in frame["subject"]:
        data = np.full((10, 9, 8), float(subject[1:]), dtype=np.float32)
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / f"{subject}.nii.gz")
    return frame.assign(image=[str(tmp_path / f"{s}.nii.gz") for s in frame["subject"]])


def whose(images) -> list[str]:
    """The subjects that the voxels of a batch name."""
    flat = torch.as_tensor(images).flatten(1)
    assert (flat == flat[:, :1]).all()
    return [f"s{int(v)}" for v in flat[:, 0]]


def require_own_rows(batch, encoder) -> None:
    """Image, id and covariates of each place in a batch are one subject's, by the voxels and a fresh encoding."""
    names = whose(batch["image"])
    assert batch["id"] == names
    own = cohort().set_index("subject", drop=False).loc[names]
    np.testing.assert_array_equal(batch["covariates"].numpy(), encoder.transform(own))
    assert batch["covariates"].dtype == torch.float32
    assert type(batch["covariates"]) is torch.Tensor
    if "target" in batch:
        assert batch["target"].tolist() == [["CN", "AD"].index(d) for d in own["dx"]]


def in_memory() -> dict[str, torch.Tensor]:
    return {f"s{k}": torch.full((1, 4, 4), float(k)) for k in range(N)}


TARGET = {"target": "dx", "classes": ["CN", "AD"]}


# torch


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shuffled_loader_gives_each_image_its_own_row(encoder, workers):
    dataset = CovariateDataset(cohort(), encoder, images=in_memory(), **TARGET)
    loader = DataLoader(dataset, batch_size=3, shuffle=True, num_workers=workers, collate_fn=dataset.collate)
    seen = []
    for batch in loader:
        require_own_rows(batch, encoder)
        seen += batch["id"]
        assert list(batch) == ["image", "covariates", "target", "id"]
    assert sorted(seen) == sorted(in_memory())


def test_samplers_and_subsets_keep_the_pairs_and_an_id_may_come_twice(encoder):
    dataset = CovariateDataset(cohort(), encoder, images=in_memory(), **TARGET)
    sampler = WeightedRandomSampler([1.0] * N, 20, generator=torch.Generator().manual_seed(0))
    batches = [*DataLoader(dataset, 10, sampler=sampler, collate_fn=dataset.collate)]
    batches += [*DataLoader(Subset(dataset, [5, 1, 3]), 2, collate_fn=covariate_collate)]
    assert [len(b["id"]) for b in batches] == [10, 10, 2, 1]
    for batch in batches:
        require_own_rows(batch, encoder)


def test_an_item_says_what_it_holds(encoder):
    frame = cohort()
    dataset = CovariateDataset(frame, encoder, images=in_memory(), transform=lambda x: x + 100, **TARGET)
    assert len(dataset) == N
    item = dataset[2]
    assert list(item) == ["image", "covariates", "target", "id"]
    assert item["id"] == frame["subject"][2]
    assert item["covariates"].shape == (2,)
    assert item["target"].dtype == torch.int64
    assert item["image"].unique().tolist() == [100 + int(item["id"][1:])]
    assert dataset[-1]["id"] == frame["subject"].iloc[-1]
    with pytest.raises(IndexError):
        dataset[N]
    assert "target" not in CovariateDataset(frame, encoder, images=in_memory())[0]


def test_files_are_loaded_from_the_root(encoder, tmp_path):
    frame = cohort()
    for subject in frame["subject"]:
        (tmp_path / subject).write_text(subject[1:])
    dataset = CovariateDataset(
        frame.assign(image=frame["subject"]),
        encoder,
        root=tmp_path,
        load=lambda p: torch.full((1, 2), float(Path(p).read_text())),
    )
    for batch in DataLoader(dataset, 4, shuffle=True, collate_fn=dataset.collate):
        require_own_rows(batch, encoder)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(N)), st.permutations(range(N)))
def test_neither_the_order_of_the_rows_nor_of_the_images_matters(rows, images):
    encoder = CovariateEncoder(["age", "sex"]).fit(cohort())
    frame, of = cohort().iloc[rows], list(in_memory().items())
    dataset = CovariateDataset(frame, encoder, images=dict(of[i] for i in images))
    require_own_rows(dataset.collate([dataset[i] for i in range(N)]), encoder)
    paired, report = pair_by_id({name: f"{name}.nii" for name, _ in (of[i] for i in images)}, frame)
    assert (paired["image"] == paired["subject"] + ".nii").all()
    assert paired["age"].tolist() == [50 + int(s[1:]) for s in paired["subject"]]
    assert report.empty


# MONAI


def monai_pipeline(samples=1, random=True):
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        RandFlipd,
        RandSpatialCropd,
        RandSpatialCropSamplesd,
    )

    steps = [LoadImaged("image"), EnsureChannelFirstd("image")]
    if random:
        steps.append(RandFlipd("image", prob=0.5))
        crop = {"keys": "image", "roi_size": (4, 4, 4), "random_size": False}
        steps.append(RandSpatialCropSamplesd(num_samples=samples, **crop) if samples > 1 else RandSpatialCropd(**crop))
    return Compose(steps)


@pytest.mark.parametrize("kind", ["Dataset", "CacheDataset", "PersistentDataset"])
@pytest.mark.parametrize("samples", [1, 3])
def test_rows_survive_monai_s_datasets_and_each_crop_carries_its_own(volumes, encoder, tmp_path, kind, samples):
    import monai.data

    table = CovariateTable(volumes, encoder, **TARGET)
    options = {
        "Dataset": {},
        "CacheDataset": {"progress": False, "num_workers": None},
        "PersistentDataset": {"cache_dir": tmp_path / "cache", "hash_transform": monai.data.utils.pickle_hashing},
    }[kind]
    dataset = getattr(monai.data, kind)(covariate_items(table), monai_pipeline(samples), **options)
    checked = functools.partial(covariate_collate, table=table)
    for _epoch in range(2):  # the second from the cache
        for loader in (
            DataLoader(dataset, 3, shuffle=True, collate_fn=checked),
            monai.data.DataLoader(dataset, batch_size=3, shuffle=True),  # MONAI's own collate function
        ):
            for batch in loader:
                require_own_rows({**batch, "covariates": batch["covariates"]}, encoder)
                table.require(batch["id"], batch["covariates"])
                assert batch["image"].shape[1:] == (1, 4, 4, 4)
                assert len(batch["id"]) % samples == 0


def test_monai_items_in_worker_processes(volumes, encoder):
    import monai.data

    table = CovariateTable(volumes, encoder, **TARGET)
    dataset = monai.data.Dataset(covariate_items(table), monai_pipeline(2))
    loader = DataLoader(dataset, 2, num_workers=2, collate_fn=functools.partial(covariate_collate, table=table))
    names = []
    for batch in loader:
        require_own_rows(batch, encoder)
        names += batch["id"]
    assert sorted(names) == sorted([*volumes["subject"]] * 2)


def test_a_monai_image_of_another_row_s_file_is_found(volumes, encoder):
    import monai.data

    table = CovariateTable(volumes, encoder)
    dataset = monai.data.Dataset(covariate_items(table), monai_pipeline(random=False))
    items = [dataset[i] for i in range(3)]
    covariate_collate(items, table=table)
    items[0]["image"], items[1]["image"] = items[1]["image"], items[0]["image"]
    with pytest.raises(TableError, match=r"each id's own image, got others for 2 of 3"):
        covariate_collate(items, table=table)


def test_a_persistent_cache_does_not_serve_the_covariates_of_an_older_encoder(volumes, tmp_path):
    from monai.data import PersistentDataset
    from monai.data.utils import pickle_hashing

    for encoder in (
        CovariateEncoder(["age", "sex"]).fit(volumes),
        CovariateEncoder(["age", "sex"]).fit(volumes.iloc[:4]),
    ):
        items = covariate_items(CovariateTable(volumes, encoder))
        data = PersistentDataset(items, monai_pipeline(random=False), tmp_path / "cache", hash_transform=pickle_hashing)
        require_own_rows(covariate_collate([data[i] for i in range(N)]), encoder)


def test_an_item_s_cache_key_is_the_same_whenever_and_of_whatever_table_it_is_made(volumes, encoder):
    """Otherwise a persistent cache would never be found again, or be lost when an unrelated row is dropped."""
    from monai.data.utils import pickle_hashing

    def item(frame, place):
        return covariate_items(CovariateTable(frame, encoder, **TARGET))[place]

    kept = item(volumes, 3)
    assert pickle_hashing(kept) == pickle_hashing(item(volumes.iloc[2:5], 1))
    assert pickle_hashing(kept) != pickle_hashing(item(volumes, 4))
    as_tensors = [{**i, "covariates": torch.tensor(i["covariates"])} for i in (kept, item(volumes, 3))]
    assert pickle_hashing(as_tensors[0]) != pickle_hashing(as_tensors[1])  # why they are no tensors


# TorchIO


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_survive_torchio(volumes, encoder, workers):
    import torchio as tio

    table = CovariateTable(volumes, encoder, **TARGET)
    transform = tio.Compose([tio.RandomFlip(axes=(0, 1)), tio.CropOrPad((6, 6, 6))])
    data = tio.SubjectsDataset(torchio_subjects(table), transform=transform)
    seen = []
    for loaded in tio.SubjectsLoader(data, batch_size=3, shuffle=True, num_workers=workers):
        batch = torchio_batch(loaded, table)
        require_own_rows(batch, encoder)
        assert batch["image"].shape[1:] == (1, 6, 6, 6)
        seen += batch["id"]
    assert sorted(seen) == sorted(volumes["subject"])


def test_patches_from_a_torchio_queue_carry_their_rows(volumes, encoder):
    import torchio as tio

    table = CovariateTable(volumes, encoder, **TARGET)
    queue = tio.Queue(
        tio.SubjectsDataset(torchio_subjects(table)), max_length=9, samples_per_volume=3, sampler=tio.UniformSampler(4)
    )
    names = []
    for loaded in tio.SubjectsLoader(queue, batch_size=4):
        batch = torchio_batch(loaded, table)
        require_own_rows(batch, encoder)
        names += batch["id"]
    assert sorted(names) == sorted([*volumes["subject"]] * 3)
    loaded["covariates"] = loaded["covariates"].roll(1, 0)
    if len(set(loaded["id"])) > 1:
        with pytest.raises(TableError, match="each id's own covariates"):
            torchio_batch(loaded, table)


def test_a_torchio_batch_of_other_files_or_without_rows_is_refused(volumes, encoder):
    import torchio as tio

    table = CovariateTable(volumes, encoder)
    loaded = next(iter(tio.SubjectsLoader(tio.SubjectsDataset(torchio_subjects(table)), batch_size=3)))
    torchio_batch(loaded, table)
    files = loaded["image"]["path"]
    with pytest.raises(TableError, match="each id's own image"):
        torchio_batch({**loaded, "image": {**loaded["image"], "path": files[1:] + files[:1]}}, table)
    with pytest.raises(TableError, match=r"without \['covariates'\]"):
        torchio_batch({k: v for k, v in loaded.items() if k != "covariates"}, table)
    with pytest.raises(TableError, match="for each of 3 images, got 2 ids"):
        torchio_batch({**loaded, "id": loaded["id"][:2]}, table)


# the field's mistakes: each is refused


@pytest.fixture
def batch(encoder):
    table = CovariateTable(cohort(), encoder, **TARGET)
    return table, list(table.ids), table.rows(table.ids)


def test_image_i_with_row_i_plus_1(batch):
    table, ids, rows = batch
    table.require(ids, rows)
    with pytest.raises(TableError, match=r"others for 7 of 7: .*shifted"):
        table.require(ids, rows.roll(-1, 0))
    items = [{"image": torch.zeros(1), "covariates": rows[(i + 1) % N], "id": name} for i, name in enumerate(ids)]
    with pytest.raises(TableError, match="each id's own covariates"):
        covariate_collate(items, table=table)


def test_rows_repeated_f_b_against_images_flattened_b_f(batch):
    table, ids, rows = batch
    flattened = [name for name in ids for _ in range(3)]  # (b, f): all frames of the first subject, then the next
    table.require(flattened, rows.repeat_interleave(3, 0))
    with pytest.raises(TableError, match="each id's own covariates"):
        table.require(flattened, rows.repeat(3, 1).reshape(3, N, 2).flatten(0, 1))  # (f, b)
    with pytest.raises(TableError, match="each id's own covariates"):
        table.require(flattened, rows.repeat(3, 1, 1).flatten(0, 1))


def test_the_first_row_for_the_whole_batch(batch):
    table, ids, rows = batch
    with pytest.raises(TableError, match="others for 6 of 7"):
        table.require(ids, rows[:1].expand(N, -1))
    with pytest.raises(TableError, match=r"expected covariates \(7, 2\), .* got \(1, 2\)"):
        table.require(ids, rows[:1])


def test_one_id_with_two_rows_or_two_targets_in_a_batch_is_refused_without_a_table_too(batch):
    table, _, _ = batch
    items = [{"covariates": r, "target": torch.tensor(0), "id": "a"} for r in table.covariates[:2]]
    with pytest.raises(TableError, match="wherever 'a' occurs"):
        covariate_collate(items)
    items = [{"covariates": table.covariates[0], "target": torch.tensor(t), "id": "a"} for t in (0, 1)]
    with pytest.raises(TableError, match="wherever 'a' occurs"):
        covariate_collate([items])


def test_a_transform_that_changes_covariates_is_found(volumes, encoder):
    from monai.data import Dataset
    from monai.transforms import Compose, RandGaussianNoised, ScaleIntensityd

    table = CovariateTable(volumes, encoder)
    for step in (ScaleIntensityd(["covariates"]), RandGaussianNoised(["covariates"], prob=1.0)):
        dataset = Dataset(covariate_items(table), Compose([step]))
        with pytest.raises(TableError, match="changed by a transform"):
            covariate_collate([dataset[i] for i in range(3)], table=table)


def test_a_lookup_is_by_id_in_the_order_asked_for(batch, encoder):
    table, _, _ = batch
    frame = cohort().set_index("subject", drop=False)
    asked = ["s3", "s0", "s3"]
    np.testing.assert_array_equal(table.rows(asked).numpy(), encoder.transform(frame.loc[asked]))
    with pytest.raises(TableError, match=r"got 1 others: 'S3'; did you mean 's3'\?"):
        table.rows(["S3", "s0"])


# collate: what is no item


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([], "at least one item"),
        ([{"image": 1}], r"'covariates' and 'id' \(text\), got \['image'\]"),
        ([{"covariates": torch.zeros(2), "id": 3}], "'covariates' and 'id'"),
        ([torch.zeros(2)], "got Tensor"),
        ([{"covariates": torch.zeros(2).double(), "id": "a"}], "float32 covariates"),
        ([{"covariates": torch.zeros(1, 2), "id": "a"}], r"shape \(K,\)"),
        ([{"covariates": torch.zeros(2), "id": "a"}, {"covariates": torch.zeros(3), "id": "b"}], r"'b: \(3,\)"),
        (
            [{"covariates": torch.zeros(2), "id": "a"}, {"covariates": torch.zeros(2), "id": "b", "x": 1}],
            "the same keys",
        ),
    ],
)
def test_what_is_no_item_is_refused(items, says):
    with pytest.raises(TableError, match=says):
        covariate_collate(items)


# pairing two things that come separately


def test_what_finds_no_partner_is_reported_with_its_kind():
    rows = pd.DataFrame({"subject": list("abcdd"), "session": ["1"] * 5, "age": range(5)}, index=list("vwxyz"))
    images = pd.DataFrame(
        {
            "subject": ["c", "a", "q", "c", "d"],
            "session": ["1", "1", "1", "1", "1"],
            "image": ["c1", "a1", "q1", "c2", "d1"],
        }
    )
    paired, report = pair_by_id(images, rows, unmatched="report")
    assert paired.to_dict("index") == {"v": {"subject": "a", "session": "1", "age": 0, "image": "a1"}}
    assert list(report.columns) == ["kind", "id", "subject", "session", "image", "reason"]
    assert sorted(zip(report["kind"], report["id"], report["image"].fillna("none"), strict=True)) == [
        ("image without row", "q_1", "q1"),
        ("row without image", "b_1", "none"),
        ("several images for a row", "c_1", "c1"),
        ("several images for a row", "c_1", "c2"),
        ("several rows for an id", "d_1", "d1"),
    ]
    with pytest.raises(TableError, match=r"2 several images for a row, .*'b_1', .*unmatched='report'"):
        pair_by_id(images, rows)


@pytest.mark.parametrize("kind", ["dict", "series", "frame"])
def test_images_come_by_id_in_any_form_and_ids_as_numbers_are_the_same(kind):
    rows = pd.DataFrame({"subject": [10, 2], "age": [60, 70]})
    images = {
        "dict": {"2": "two", "10": "ten"},
        "series": pd.Series({2: "two", 10: "ten"}),
        "frame": pd.DataFrame({"subject": ["2", "10"], "image": ["two", "ten"]}),
    }[kind]
    assert pair_by_id(images, rows)[0]["image"].tolist() == ["ten", "two"]


def test_parts_of_an_id_are_compared_and_not_their_text():
    """Subject 1_1, session 2 and subject 1, session 1_2 are both written 1_1_2."""
    rows = pd.DataFrame({"subject": ["1_1", "b"], "session": ["2", ""], "age": [60, 70]})
    other = pd.DataFrame({"subject": ["1", "b"], "session": ["1_2", ""], "image": ["of_1.nii", "b.nii"]})
    with pytest.raises(TableError, match="1 row without image, 1 image without row"):
        pair_by_id(other, rows)
    with pytest.raises(TableError, match="1 row without image, 1 image without row"):
        pair_by_id(pd.DataFrame({"subject": ["1_1_2", "b"], "image": ["x.nii", "b.nii"]}), rows)
    paired, report = pair_by_id(other.assign(subject=["1_1", "b"], session=["2", ""]), rows)
    assert (paired["image"].tolist(), len(report)) == (["of_1.nii", "b.nii"], 0)
    paired, _ = pair_by_id(other, rows, id=["subject"], unmatched="report")
    assert paired["image"].tolist() == ["b.nii"]
    paired, _ = pair_by_id({"1_1_2": "x.nii", "b": "b.nii"}, rows)  # an id that was written so on purpose
    assert paired["image"].tolist() == ["x.nii", "b.nii"]


def test_a_transform_in_place_does_not_change_the_images(encoder):
    images = {name: np.ones(4) for name in cohort()["subject"]}
    data = CovariateDataset(cohort(), encoder, images=images, transform=lambda image: np.multiply(image, 2, out=image))
    assert data[0]["image"].tolist() == data[0]["image"].tolist() == [2.0] * 4
    assert all((image == 1).all() for image in images.values())


@pytest.mark.parametrize("images", [["a.nii", "b.nii"], np.zeros((2, 3)), "a.nii", torch.zeros(2)])
def test_images_without_ids_cannot_be_given(images, encoder):
    with pytest.raises(TableError, match="the order of a list cannot be checked"):
        pair_by_id(images, cohort())
    with pytest.raises(TableError, match="the order of a list cannot be checked"):
        CovariateDataset(cohort(), encoder, images=images)


def test_two_lists_are_joined_only_if_their_ids_are_whole():
    assert images_by_id(np.array(["b", "a"]), np.array([2, 1])) == {"b": 2, "a": 1}
    assert images_by_id(np.array([7]), ["x"]) == {"7": "x"}
    for ids, images, says in (
        (["a"], [1, 2], "got 1 ids and 2 images"),
        (["a", "a"], [1, 2], "1 several times: 'a'"),
        (["a", None], [1, 2], "got none at position 1"),
    ):
        with pytest.raises(TableError, match=says):
            images_by_id(ids, images)


def test_a_dataset_whose_images_are_not_those_of_the_rows_is_refused(encoder):
    images = in_memory()
    images["s99"] = images.pop("s3")
    with pytest.raises(TableError, match="got 1 rows without an image: 's3' and 1 images without a row: 's99'"):
        CovariateDataset(cohort(), encoder, images=images)
    with pytest.raises(TableError, match="on both sides, got none"):
        pair_by_id({"x": 1}, cohort(), unmatched="report")
    with pytest.raises(TableError, match="column 'image' has 7"):
        pair_by_id({"s0": 1}, cohort().assign(image="x"))
    with pytest.raises(TableError, match="'error' or 'report'"):
        pair_by_id({"s0": 1}, cohort(), unmatched="ignore")


# the table


def test_the_target_among_the_covariates_is_refused():
    frame = cohort().assign(dx=lambda f: (f["dx"] == "AD") * 1)
    encoder = CovariateEncoder(["age", "dx"]).fit(frame)
    with pytest.raises(TableError, match=r"the target 'dx' among \['age', 'dx'\]"):
        CovariateDataset(frame, encoder, images=in_memory(), target="dx")


def test_targets(encoder):
    frame = cohort().assign(flag=True, count=range(N), score=0.5, gap=[None, *[1.0] * (N - 1)])
    made = {t: CovariateTable(frame, encoder, target=t).targets.dtype for t in ("flag", "count", "score")}
    assert made == {"flag": torch.int64, "count": torch.int64, "score": torch.float32}
    assert CovariateTable(frame, encoder).targets is None
    for options, says in (
        ({"target": "dx"}, "to say which class is 0, 1"),
        ({"target": "dx", "classes": ["CN", "MCI"]}, r"one of the classes \['CN', 'MCI'\], got others in 3 of 7 rows"),
        ({"target": "dx", "classes": ["CN", "CN"]}, "list of different classes"),
        ({"target": "gap"}, "a value in every row, got others in 1 of 7"),
        ({"target": "dxx"}, "did you mean 'dx'"),
    ):
        with pytest.raises(TableError, match=says):
            CovariateTable(frame, encoder, **options)


def test_ids_must_be_there_and_tell_the_rows_apart(encoder):
    frame = cohort()
    visits = pd.concat(
        [frame.assign(session="m00"), frame.assign(session="m12", age=frame["age"] + 1)], ignore_index=True
    )
    assert CovariateTable(visits, encoder).ids[:1] == (frame["subject"][0] + "_m00",)
    with pytest.raises(TableError, match=r"each id once, got 7 several times: .*id='image'"):
        CovariateTable(visits, encoder, id="subject")
    with pytest.raises(TableError, match=r"in 'subject' of every row, got 1 without: rows 4"):
        CovariateTable(frame.assign(subject=frame["subject"].where(frame.index != 4)), encoder)
    with pytest.raises(TableError, match=r"'subject' and 'run' of every row, got 1 without: rows 2"):
        CovariateTable(frame.assign(run=[1, 1, None, 1, 1, 1, 1]), encoder, id=["subject", "run"])
    collide = pd.DataFrame({"subject": ["a_b", "a"], "session": ["c", "b_c"], "age": [1.0, 2.0], "sex": [0, 1]})
    with pytest.raises(TableError, match="several times: 'a_b_c'"):
        CovariateTable(collide, encoder)


def test_rows_without_an_image_are_named(volumes, encoder):
    gaps = volumes.assign(image=volumes["image"].where(volumes["subject"] != "s4"))
    for make in (lambda: CovariateDataset(gaps, encoder), lambda: covariate_items(CovariateTable(gaps, encoder))):
        with pytest.raises(TableError, match="got 1 of 7 without: 's4'"):
            make()
    with pytest.raises(TableError, match="expected a column 'image'"):
        CovariateDataset(cohort(), encoder)


# real data


def test_a_real_volume_with_its_row(encoder):
    folder = os.environ.get("FUSIONCONV_TEST_DATA")
    if not folder:
        pytest.skip("FUSIONCONV_TEST_DATA does not say where ds002748_mini is")
    import monai.data
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandSpatialCropSamplesd

    root = Path(folder) / "ds002748_mini"
    rows = pd.read_csv(root / "participants.tsv", sep="\t", na_values="n/a").rename(
        columns={"participant_id": "subject"}
    )
    rows["sex"] = (rows["gender"] == "m") * 1
    files = {p.name.split("_")[0]: str(p) for p in sorted(root.glob("sub-*/anat/*_T1w.nii.gz"))}
    paired, report = pair_by_id(files, rows, unmatched="report")
    assert len(rows) == 72
    assert sorted(paired["subject"]) == ["sub-01", "sub-02", "sub-05", "sub-40", "sub-55", "sub-60"]
    assert report["kind"].value_counts().to_dict() == {"row without image": 66}
    encoder = CovariateEncoder(["age", "sex"]).fit(rows)
    table = CovariateTable(paired, encoder, target="group", classes=["control", "depr"])
    crop = RandSpatialCropSamplesd("image", roi_size=(16, 16, 16), num_samples=2, random_size=False)
    items = [item for item in covariate_items(table) if item["id"] in ("sub-40", "sub-60")]
    dataset = monai.data.Dataset(items[::-1], Compose([LoadImaged("image"), EnsureChannelFirstd("image"), crop]))
    (batch,) = DataLoader(dataset, 2, collate_fn=functools.partial(covariate_collate, table=table))
    assert batch["id"] == ["sub-60", "sub-60", "sub-40", "sub-40"]
    assert batch["image"].shape == (4, 1, 16, 16, 16)
    z = [(age - rows["age"].mean()) / rows["age"].std(ddof=0) for age in (27, 27, 28, 28)]  # read off the file
    np.testing.assert_allclose(
        batch["covariates"].numpy(), [[v, s] for v, s in zip(z, [0, 0, 1, 1], strict=True)], rtol=1e-6
    )
    assert batch["target"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([0.0, 1.0], [0, 1]),
        ([0, 1], [0.0, 1.0]),
        (np.array([0, 1], np.float32), [0, 1]),
        (np.array([0, 1], np.int8), ["0", "1"]),
        (["0", "1"], [0, 1]),
        ([False, True], [0, 1]),
        ([0.0, 1.0], [np.int64(0), np.int64(1)]),
        ([False, True], [False, True]),
    ],
)
def test_a_class_is_the_same_however_it_is_stored(values, classes):
    frame = pd.DataFrame({"subject": ["a", "b"], "sex": [0, 1], "dx": values})
    encoder = CovariateEncoder(["sex"]).fit(frame)
    assert CovariateTable(frame, encoder, target="dx", classes=classes).targets.tolist() == [0, 1]
    assert CovariateTable(frame, encoder, target="dx", classes=classes[::-1]).targets.tolist() == [1, 0]
    with pytest.raises(TableError, match="one of the classes"):
        CovariateTable(frame, encoder, target="dx", classes=[0, 2])


@pytest.mark.parametrize("target", [["dx"], ("dx",), {"dx": 1}, pd.Series(["dx"]), 3])
def test_a_target_that_is_no_name_is_refused(target):
    frame = pd.DataFrame({"subject": ["a", "b"], "sex": [0, 1], "dx": [0, 1]})
    encoder = CovariateEncoder(["sex"]).fit(frame)
    with pytest.raises(TableError, match="target: expected the name of one column"):
        CovariateDataset(frame, encoder, images={"a": 1, "b": 2}, target=target)


@pytest.mark.parametrize("stored", ["Mu\u0308ller", " M\u00fcller", "M\u00fcller "])
def test_ids_meet_whatever_their_outer_spaces_and_accents_are(stored):
    frame = pd.DataFrame({"subject": ["M\u00fcller", "b"], "sex": [0, 1]})
    for images in (
        {"b": "b.nii", stored: "m.nii"},
        pd.DataFrame({"subject": ["b", stored], "image": ["b.nii", "m.nii"]}),
    ):
        assert pair_by_id(images, frame)[0]["image"].tolist() == ["m.nii", "b.nii"]
    other = frame.assign(subject=[stored, "b"])
    table = CovariateTable(other, CovariateEncoder(["sex"]).fit(frame))
    assert table.rows(["b", "M\u00fcller", stored]).tolist() == [[1], [0], [0]]
    with pytest.raises(TableError, match="each id once, got 2 several times"):
        CovariateTable(pd.concat([frame, other]), CovariateEncoder(["sex"]).fit(frame))


@pytest.mark.parametrize("subjects", [[1, 2, 3], ["1", "2", "3"], [1.0, 2.0, 3.0]])
@pytest.mark.parametrize(
    "keys", [[3, 1, 2], ["3", "1 ", "2"], [3.0, 1.0, 2.0], np.array([3, 1, 2]), list(torch.tensor([3, 1, 2]))]
)
def test_images_by_whole_numbers_are_those_of_the_rows(subjects, keys):
    frame = pd.DataFrame({"subject": subjects, "sex": [0, 1, 1]})
    encoder = CovariateEncoder(["sex"]).fit(frame)
    dataset = CovariateDataset(frame, encoder, images={key: f"{int(key)}.nii" for key in keys})
    assert [dataset[i]["image"] for i in range(3)] == ["1.nii", "2.nii", "3.nii"]
    assert [dataset[i]["id"] for i in range(3)] == ["1", "2", "3"]
    with pytest.raises(TableError, match=r"one image for each id, got 1 and '1'; keep one"):
        CovariateDataset(frame, encoder, images={1: "a", "1": "b", 2: "c", 3: "d"})
    with pytest.raises(TableError, match=r"got 1 rows without an image: '3' and 1 images without a row: '3.5'"):
        CovariateDataset(frame, encoder, images={1: "a", 2: "c", 3.5: "d"})
