"""Hip implants as closed meshes, with the bone that each operation removes.

`measure_femur` turns an anatomy into a `FemurFrame`; each function in `ARTHROPLASTIES` and
`FIXATIONS` turns frames and a random generator into an `Implant`. The keys of these mappings are
the grades of `docs/categories.md`, mildest (least metal) first.
"""

from hipedge.phantom.hardware.arthroplasty import ARTHROPLASTIES
from hipedge.phantom.hardware.fixation import FIXATIONS
from hipedge.phantom.hardware.frames import AcetabulumFrame, FemurFrame, measure_femur
from hipedge.phantom.hardware.implant import Implant, Material, Part, Plane, Sphere

__all__ = [
    "ARTHROPLASTIES",
    "FIXATIONS",
    "AcetabulumFrame",
    "FemurFrame",
    "Implant",
    "Material",
    "Part",
    "Plane",
    "Sphere",
    "measure_femur",
]
