"""Teachers, stored images, and runs in the arrays of the public code."""

import math
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import zotk


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- the linear teacher ----


def test_a_teacher_without_noise_is_its_own_least_squares_fit():
    x, y, theta = zotk.linear_task(40, 7, noise=0.0, generator=rng(), dtype=torch.float64)
    assert x.shape == (40, 7) and y.shape == (40,) and theta.shape == (7,)
    assert torch.allclose(x.norm(dim=1), torch.ones(40, dtype=torch.float64))
    assert (x >= 0).all()
    assert set(theta.tolist()) <= set(range(1, 10))
    fit = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    assert torch.allclose(fit, theta)


def test_the_orthant_has_the_spectrum_of_a_normalised_square():
    x, *_ = zotk.linear_task(200_000, 2, generator=rng(1), dtype=torch.float64)
    products = x[:, 0] * x[:, 1]
    error = products.mean() - math.log(2) / 2
    assert abs(error) < 5 * products.std() / len(x) ** 0.5


def test_the_sphere_is_isotropic_and_its_points_go_everywhere():
    x, *_ = zotk.linear_task(50_000, 3, orthant=False, generator=rng(2), dtype=torch.float64)
    assert (x.T @ x / len(x) - torch.eye(3) / 3).abs().max() < 0.01
    assert (x.sign().mean(0).abs() < 0.03).all()


def test_noise_is_a_standard_deviation_and_a_given_teacher_is_used():
    plane = torch.tensor([7.0, 2.0], dtype=torch.float64)
    x, y, theta = zotk.linear_task(
        100_000, 2, noise=0.05, theta=plane, generator=rng(3), dtype=torch.float64
    )
    assert theta is plane
    assert float((y - x @ plane).std()) == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"n": 0, "d": 2}, "n is 0"),
        ({"n": 5, "d": 0}, "d is 0"),
        ({"n": 5, "d": 2, "noise": -1.0}, "noise is -1"),
        ({"n": 5, "d": 2, "noise": math.nan}, "noise is nan"),
        ({"n": 5, "d": 2, "theta": torch.ones(3)}, "theta has shape"),
        ({"n": 5, "d": 2, "theta": torch.ones(2, 1)}, r"theta has shape \(2, 1\)"),
    ],
)
def test_a_bad_task_is_refused(bad, named):
    with pytest.raises(ValueError, match=named):
        zotk.linear_task(**bad)


# ---- images ----


def test_digits_come_in_the_order_of_the_data_set_and_balanced():
    x, y = zotk.images("digits", (1, 0), per_class=20, dtype=torch.float64)
    everything, labels = zotk.digits((1, 0), dtype=torch.float64)
    kept = torch.cat([torch.where(labels == k)[0][:20] for k in (0, 1)]).sort().values
    assert torch.equal(x, everything[kept]) and torch.equal(y, labels[kept])
    assert torch.bincount(y).tolist() == [20, 20]


def test_areas_are_averaged():
    x, _ = zotk.images("digits", (3,), per_class=2, dtype=torch.float64)
    small, _ = zotk.images("digits", (3,), per_class=2, size=4, dtype=torch.float64)
    by_hand = x.view(2, 4, 2, 4, 2).mean((2, 4)).reshape(2, 16)
    assert torch.allclose(small, by_hand)


def test_areas_are_equal_also_when_the_size_does_not_divide_the_side():
    x, _ = zotk.images("digits", (3,), per_class=2, dtype=torch.float64)
    small, _ = zotk.images("digits", (3,), per_class=2, size=3, dtype=torch.float64)
    # bilinear interpolation of the summed-area table is the integral up to any point
    total = torch.nn.functional.pad(x.view(2, 8, 8).cumsum(1).cumsum(2), (1, 0, 1, 0))
    whole = torch.nn.functional.interpolate(
        total[:, None], (4, 4), mode="bilinear", align_corners=True
    )[:, 0]
    areas = whole.diff(dim=1).diff(dim=2) / (8 / 3) ** 2
    assert torch.allclose(small, areas.flatten(1))


def test_patches_are_parts_of_the_two_photographs():
    from sklearn.datasets import load_sample_images

    x, y = zotk.images("patches", (1, 0), per_class=260, dtype=torch.float64)
    assert x.shape == (520, 1024) and torch.bincount(y).tolist() == [260, 260]
    for label, photograph in ((1, 0), (0, 1)):
        grey = load_sample_images().images[photograph][:416, :640] @ np.array([0.299, 0.587, 0.114])
        assert torch.isclose(x[y == label].mean(), torch.tensor(grey.mean() / 255))
    again, _ = zotk.images("patches", (1, 0), per_class=260, dtype=torch.float64)
    assert torch.equal(x, again)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("letters", (0, 1), 5), "name is 'letters'"),
        (("digits", (0, 0), 5), "distinct"),
        (("digits", 3, 5), "classes is 3"),
        (("digits", (0, 12), 5), "class 12 of digits has 0"),
        (("digits", (0, 1), 500), "class 0 of digits has 178"),
        (("digits", (0, 1), 0), "per_class is 0"),
    ],
)
def test_images_that_are_not_there_are_refused(arguments, named):
    name, classes, per_class = arguments
    with pytest.raises(ValueError, match=named):
        zotk.images(name, classes, per_class=per_class)


@pytest.mark.parametrize("name", ["digits", "patches", "mnist"])
def test_pixels_are_floating_point_numbers(name):
    with pytest.raises(TypeError, match=r"dtype is torch\.int64"):
        zotk.images(name, (0, 1), per_class=5, dtype=torch.int64)


def test_digits_have_no_split():
    with pytest.raises(ValueError, match="split is 'test'"):
        zotk.images("digits", (0, 1), per_class=5, split="test")


class Rows(dict):
    """The part of a data set of the hub that is used: columns by name, and a choice of rows."""

    features = property(dict.keys)

    def select(self, rows):
        return Rows({name: [column[row] for row in rows] for name, column in self.items()})


def test_colours_become_grey_and_the_split_is_asked_for(monkeypatch, tmp_path):
    colours = torch.randint(0, 256, (4, 2, 2, 3), dtype=torch.uint8, generator=rng(6))
    stored = Rows(label=[7, 1, 2, 7], img=[Image.fromarray(one.numpy()) for one in colours])
    asked = []

    def load_dataset(address, *, split):
        asked.append((address, split))
        return stored

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.delenv("ZOTK_DATA", raising=False)
    x, y = zotk.images("cifar10", (7, 2), per_class=1, split="test", dtype=torch.float64)
    luma = colours.double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64) / 255
    assert (x - luma[[0, 2]].flatten(1)).abs().max() <= 1 / 255
    assert y.tolist() == [0, 1]
    (tmp_path / "cifar10").mkdir()
    monkeypatch.setenv("ZOTK_DATA", str(tmp_path))
    zotk.images("cifar10", (7, 2), per_class=1)
    assert asked == [("uoft-cs/cifar10", "test"), (str(tmp_path / "cifar10"), "train")]


def test_without_the_hub_the_message_names_the_folder_to_set(monkeypatch):
    def load_dataset(address, *, split):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.delenv("ZOTK_DATA", raising=False)
    with pytest.raises(ConnectionError, match=r"ylecun/mnist .* set ZOTK_DATA .* mnist/"):
        zotk.images("mnist", (0, 1), per_class=5)


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'zotk\[data\]'"):
        zotk.images("mnist", (0, 1), per_class=5)


def test_a_notebook_keeps_a_record_of_data_left_out_and_a_script_prints_nothing(
    monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "datasets", None)
    kept = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: kept.append(bundle))
    for shell in (None, object()):
        monkeypatch.setattr("IPython.get_ipython", lambda shell=shell: shell)
        with pytest.raises(ImportError) as error:
            zotk.images("cifar10", (0, 1), per_class=5)
        assert len(kept) == (shell is not None) and capsys.readouterr().out == ""
    record = kept[0]["application/vnd.zotk.left-out+json"]
    assert record == {"name": "cifar10", "why": str(error.value)}


def test_a_mirror_without_the_data_set_is_named(monkeypatch, tmp_path):
    pytest.importorskip("datasets")
    monkeypatch.setenv("ZOTK_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="no folder 'mnist'"):
        zotk.images("mnist", (0, 1), per_class=5)


@pytest.mark.parametrize(
    ("name", "classes", "pixels"),
    [("mnist", (0, 1), 784), ("cifar10", (2, 9), 1024), ("tiny-imagenet", (0, 1), 4096)],
)
def test_stored_images(name, classes, pixels):
    pytest.importorskip("datasets", reason="pip install 'zotk[data]'")
    if not os.environ.get("ZOTK_DATA"):
        pytest.skip("ZOTK_DATA names no mirror")
    x, y = zotk.images(name, classes, per_class=50)
    assert x.shape == (100, pixels) and torch.bincount(y).tolist() == [50, 50]
    assert x.min() >= 0 and 0.5 < x.max() <= 1
    small, _ = zotk.images(name, classes, per_class=50, size=8)
    assert small.shape == (100, 64)
    side = math.isqrt(pixels)
    if side % 8 == 0:
        blocks = x.view(100, 8, side // 8, 8, side // 8).mean((2, 4)).flatten(1)
        assert torch.allclose(small, blocks, atol=1e-6)
    if name != "mnist":
        colored, again = zotk.images(name, classes, per_class=50, color=True)
        luma = torch.tensor([0.299, 0.587, 0.114])
        assert colored.shape == (100, 3 * pixels) and torch.equal(again, y)
        # both are whole numbers of 256 levels
        assert torch.allclose(
            torch.einsum("ncp,c->np", colored.view(100, 3, pixels), luma), x, atol=1.01 / 255
        )


def test_grey_data_sets_have_no_colours():
    for name in ("digits", "patches", "mnist"):
        with pytest.raises(ValueError, match="is grey"):
            zotk.images(name, (0, 1), per_class=5, color=True)


# ---- data.mat ----


def test_official_arrays_are_those_of_a_plain_loop(tmp_path):
    x, y, _ = zotk.linear_task(6, 3, generator=rng(4), dtype=torch.float64)
    f = x @ torch.randn(3, generator=rng(5), dtype=torch.float64)
    K, lr, record = 2.5 * x @ x.T, 0.2, [0, 3, 9]
    arrays = zotk.official_arrays(
        K, f, y, lr, iterations=10, record=record, order="zo", suffix="_normal_1.0"
    )
    losses, snapshots, steps = [], [], []
    for t in range(10):
        losses.append(((f - y) ** 2).sum() / 12)
        if t in record:
            snapshots.append(f)
        step = -lr / 6 * K @ (f - y)
        steps.append(step)
        f = f + step
    assert set(arrays) == {
        "loss_list_zo_normal_1.0",
        "f_zo_list_normal_1.0",
        "f_diff_list_zo_normal_1.0",
        "NZK_kernal_zo_normal_1.0",
        "function_record_iteration_list",
    }
    close = {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(arrays["loss_list_zo_normal_1.0"], torch.stack(losses), **close)
    column = torch.cat(snapshots)[:, None]
    np.testing.assert_allclose(arrays["f_zo_list_normal_1.0"], column, **close)
    column = torch.cat(steps)[:, None]
    np.testing.assert_allclose(arrays["f_diff_list_zo_normal_1.0"], column, **close)
    assert arrays["function_record_iteration_list"].tolist() == record

    from scipy.io import loadmat, savemat

    savemat(tmp_path / "data.mat", arrays)
    back = loadmat(tmp_path / "data.mat")
    np.testing.assert_array_equal(back["NZK_kernal_zo_normal_1.0"], K.numpy())


def test_first_order_runs_have_the_name_of_the_ntk():
    K = torch.eye(2, dtype=torch.float64)
    f, y = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    arrays = zotk.official_arrays(K, f, y, 0.1, iterations=4, record=[0], order="fo")
    assert {"NTK_kernal_fo", "loss_list_fo", "f_fo_list", "f_diff_list_fo"} < set(arrays)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"iterations": 0}, "iterations is 0"),
        ({"record": [4]}, "iterations from 0 to 3"),
        ({"order": "second"}, "order is 'second'"),
    ],
)
def test_bad_requests_for_arrays_are_refused(change, named):
    K = torch.eye(2, dtype=torch.float64)
    f, y = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    asked = {"iterations": 4, "record": [0], "order": "fo"} | change
    with pytest.raises(ValueError, match=named):
        zotk.official_arrays(K, f, y, 0.1, **asked)
