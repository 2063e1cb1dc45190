"""The demo's volumes: the MNI152 template with tissue that draws back smoothly, in a head of its own size and place."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["VIEW", "Brain"]

Array = NDArray[np.float32]

VIEW = (160.0, 208.0, 176.0)  # mm along right, anterior, superior: the brain with room to turn
CENTRE = (0.0, -18.0, 4.0)  # mm, of the view in MNI coordinates
GRID = 2  # mm, of the template that is deformed
LEVELS = 13  # amounts of atrophy from 0 to 1 that are computed; between them volumes are mixed
REACH = 7.0  # mm that tissue draws back, at most, at atrophy 1
SMOOTH = 5.0  # mm, standard deviation of the map that the displacement is the slope of
HIPPOCAMPI, VENTRICLES = ((-27.0, -20.0, -14.0), (27.0, -20.0, -14.0)), ((-16.0, -20.0, 14.0), (16.0, -20.0, 14.0))


class Brain:
    """Makes volumes of one spacing; the work on the template is done once, here.

    Tissue draws back along the slope g of the smoothed map of what is no tissue: the volume of atrophy ``a`` shows at
    ``x`` what the template has at ``x + a REACH w(x) g(x) / (|g(x)| + 0.2 max |g|)``. So ventricles and sulci widen and
    the cortex gets thinner. The weight ``w`` is 1 at hippocampi and lateral ventricles and falls to 0.35 far away.

    Args:
        spacing: mm, of the volumes; 2 to 10.
    """

    def __init__(self, spacing: float = 4.0) -> None:
        if not 2.0 <= spacing <= 10.0:
            raise ValueError(f"expected a spacing of 2 to 10 mm, came {spacing}; 4 is a good one")
        from scipy.ndimage import gaussian_filter, map_coordinates

        t1, tissue, origin = _template()
        self.spacing = float(spacing)
        self.shape = tuple(round(mm / spacing) for mm in VIEW)
        self._origin = origin
        slope = np.stack(np.gradient(gaussian_filter(1 - tissue, SMOOTH / GRID)))
        steep = np.sqrt((slope**2).sum(axis=0))
        slope /= steep + 0.2 * steep.max()  # saturates: the faint slopes about ventricles and hippocampi count too
        places = np.indices(t1.shape, dtype=np.float32)
        shift = slope * _weight(places, origin) * (REACH / GRID)
        blur = 0.42 * spacing / GRID  # a voxel's own width at half height: no aliasing
        self._levels: list[Array] = []
        for atrophy in np.linspace(0, 1, LEVELS):
            moved = map_coordinates(t1, places + atrophy * shift, order=1, mode="constant")
            self._levels.append(gaussian_filter(moved, blur).astype(np.float32))

    @property
    def affine(self) -> NDArray[np.float64]:
        """Of every volume: RAS, mm, the origin at MNI's."""
        affine = np.diag([self.spacing, self.spacing, self.spacing, 1.0])
        affine[:3, 3] = np.asarray(CENTRE) - (np.asarray(self.shape) - 1) / 2 * self.spacing
        return affine

    def volume(
        self,
        atrophy: float,
        *,
        size: float = 1.0,
        turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
        move: tuple[float, float, float] = (0.0, 0.0, 0.0),
        bias: Array | None = None,
        noise: Array | None = None,
    ) -> Array:
        """One volume, white matter near 1 and the outside 0.

        Args:
            atrophy: 0 to 1.
            size: of the head; 1.05 is 5 % larger in each direction.
            turn: degrees about the right, anterior and superior axes.
            move: mm to the right, front and top.
            bias: nine numbers: the field's logarithm is their sum with x, y, z, their squares and products in -1 to 1.
            noise: of this shape, added where there is brain.
        """
        from scipy.ndimage import affine_transform
        from scipy.spatial.transform import Rotation

        if not 0 <= atrophy <= 1:
            raise ValueError(f"expected atrophy of 0 to 1, came {atrophy}")
        at = atrophy * (LEVELS - 1)
        low = min(int(at), LEVELS - 2)
        mixed = self._levels[low] * np.float32(low + 1 - at) + self._levels[low + 1] * np.float32(at - low)
        # from a voxel of the volume to one of the template: to mm about the centre, moved, turned and sized back
        back = Rotation.from_euler("xyz", turn, degrees=True).inv().as_matrix() / size
        first = self.affine[:3, 3] - np.asarray(CENTRE) - np.asarray(move)
        offset = (back @ first + np.asarray(CENTRE) - self._origin) / GRID
        out = affine_transform(mixed, back * (self.spacing / GRID), offset, output_shape=self.shape, order=1)
        inside = out > 0.02
        if bias is not None:
            x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in self.shape), indexing="ij")
            terms = np.stack([x, y, z, x * x, y * y, z * z, x * y, y * z, x * z])
            out = out * np.exp(np.tensordot(np.asarray(bias, np.float32), terms, axes=1))
        if noise is not None:
            out = out + noise
        result: Array = np.where(inside, np.maximum(out, 0), 0).astype(np.float32)
        return result


def _weight(places: Array, origin: NDArray[np.float64]) -> Array:
    """w at every voxel of the template."""
    weight = np.full(places.shape[1:], 0.35, np.float32)
    for centres, width in ((HIPPOCAMPI, 16.0), (VENTRICLES, 22.0)):
        for centre in centres:
            away = sum((places[i] * GRID + origin[i] - centre[i]) ** 2 for i in range(3))
            weight = np.maximum(weight, np.exp(-away / (2 * width**2)))
    return weight


@cache
def _template() -> tuple[Array, Array, NDArray[np.float64]]:
    """T1 and grey plus white matter on a grid of 2 mm, and the MNI place of its first voxel."""
    from nilearn import datasets  # the template lies in nilearn's wheel: nothing is downloaded

    t1 = datasets.load_mni152_template(resolution=GRID)
    parts = [load(resolution=GRID) for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)]
    tissue = np.clip(sum(np.asarray(part.dataobj, np.float32) for part in parts), 0, 1)
    return np.asarray(t1.dataobj, np.float32), tissue, np.asarray(t1.affine[:3, 3], float)
