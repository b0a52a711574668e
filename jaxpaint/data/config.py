"""`Data`: where pictures come from and how an example is cut from one. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal


@dataclass
class Data:
    """Pictures for training, and masks where they come from files.

    source:    "demo"    procedural pictures, nothing to download (`jaxpaint.data.demo`)
               "folder"  JPEG, PNG, WebP and BMP files below `path`, in all folders
               "tfds"    a TensorFlow Datasets name, prepared as array_record
               "arrays"  an .npz file with ``images`` (uint8 n h w 3) and optionally ``masks`` (n h w 1); needs no
                         TensorFlow
    path:      the folder, the .npz file, or the TFDS name ("places365_small", "celeb_a_hq/256:2.0.0")
    split:     TFDS split; the demo source makes other pictures for another split
    directory: TFDS data_dir; "" is the default of TFDS (``TFDS_DATA_DIR`` or ~/tensorflow_datasets)
    feature:   TFDS: the name of the picture's feature
    size:      height and width of an example
    fit:       "crop"    a random window of the picture at full resolution (as DeepFillv2 on Places2); a picture that
                         is smaller than the window is first enlarged until it covers it, keeping its proportions
               "resize"  the whole picture resized to `size` (as CelebA-HQ), its proportions given up
               "shorter" resized, keeping proportions, to the smallest that covers `size`; then a random window
               Resizing is bilinear with antialiasing (Pillow's BILINEAR).
    flip:      mirror left and right with probability 1/2
    masks:     folder of mask pictures; "" where masks are drawn on the accelerator
    mask_pairing:    "name": the mask with the picture's stem (or its path below `path` without the ending), cut and
                     mirrored as the picture is. "seed": any mask, drawn by (seed, position), resized to `size` by
                     nearest neighbour
    mask_convention: what a hole looks like in a mask file: "hole-white", "hole-black", or "alpha" (alpha 0 = hole)
    max_broken: the largest share of broken files to put up with. A broken file is named in a warning, counted, and
                replaced by the next file; above this share it is an error. One broken file is put up with in a
                set of any size, unless this is 0: then the first one is an error.
    shuffle:   a new order in every epoch; False keeps the order of the names
    length:    number of pictures of the demo source
    """

    source: str = "demo"
    path: str = ""
    split: str = "train"
    directory: str = ""
    feature: str = "image"
    size: tuple[int, int] = (256, 256)
    fit: Literal["crop", "resize", "shorter"] = "crop"
    flip: bool = False
    masks: str = ""
    mask_pairing: Literal["name", "seed"] = "name"
    mask_convention: Literal["hole-white", "hole-black", "alpha"] = "hole-white"
    max_broken: float = 0.01
    shuffle: bool = True
    length: int = 4096
