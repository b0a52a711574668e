"""`Data`: where pictures or clips come from and how an example is cut from one. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal


@dataclass
class Data:
    """Pictures or clips for training, and masks where they come from files.

    source:    "demo"    procedural, nothing to download (`jaxpaint.data.demo`, `jaxpaint.data.demo_clips`)
               "folder"  JPEG, PNG, WebP and BMP files below `path`, in all folders. Clips: each folder in `path` that
                         is not hidden is a clip, the files in it are its frames (DAVIS, YouTube-VOS)
               "tfds"    a TensorFlow Datasets name, prepared as array_record
               "arrays"  an .npz file with ``images`` (uint8 n h w 3) and optionally ``masks`` (n h w 1); of clips with
                         ``clips`` (uint8 n t h w 3) and optionally ``masks`` (n t h w 1). Needs no TensorFlow
    path:      the folder, the .npz file, or the TFDS name ("places365_small", "celeb_a_hq/256:2.0.0", "ucf101")
    split:     TFDS split; the demo source makes other pictures for another split
    directory: TFDS data_dir; "" is the default of TFDS (``TFDS_DATA_DIR`` or ~/tensorflow_datasets)
    feature:   TFDS: the name of the feature; "" is "image", of clips "video"
    frames:    of an example; 0: examples are pictures, else clips
    stride:    of clips: the least and the most frames from one to the next (1 is every frame); a shorter clip takes
               what fits
    backward:  of clips: run backward with probability 1/2
    size:      height and width of an example
    fit:       "crop"    a random window of the picture at full resolution (as DeepFillv2 on Places2); a picture that
                         is smaller than the window is first enlarged until it covers it, keeping its proportions
               "resize"  the whole picture resized to `size` (as CelebA-HQ), its proportions given up
               "shorter" resized, keeping proportions, to the smallest that covers `size`; then a random window
               Resizing is bilinear with antialiasing (Pillow's BILINEAR). All frames of a clip have the same window.
    flip:      mirror left and right with probability 1/2
    masks:     folder of mask pictures; of clips, a folder of folders of them; "" where masks are drawn on the
               accelerator, or the arrays hold them
    mask_pairing:    "name": the mask with the picture's stem (or its path below `path` without the ending), cut and
                     mirrored as the picture is. "seed": any mask, drawn by (seed, position), resized to `size` by
                     nearest neighbour.
                     Of clips, "name": the masks in the folder of the clip's name, as many as the clip has frames; those
                     of the example's frames, cut and mirrored as they are. "seed": consecutive masks of any other clip,
                     drawn and resized; on the accelerator they are mirrored, run backward and set in motion
                     (`jaxpaint.ops.masks.paste`). Of arrays the masks of another clip of theirs
    mask_convention: what a hole looks like in a mask file: "hole-white", "hole-black", "alpha" (alpha 0 = hole), or
                     "nonzero" (whatever is not black: the objects of annotations, coloured ones too)
    max_broken: the largest share of broken files to put up with (of clips: of clips with a broken frame). A broken
                file is named in a warning, counted, and replaced by the next file; above this share it is an error.
                One broken file is put up with in a set of any size, unless this is 0: then the first one is an error.
    shuffle:   a new order in every epoch, which takes one example from each picture or clip; False keeps the order of
               the names
    length:    number of pictures or clips of the demo source
    """

    source: str = "demo"
    path: str = ""
    split: str = "train"
    directory: str = ""
    feature: str = ""
    frames: int = 0
    stride: tuple[int, int] = (1, 1)
    backward: bool = False
    size: tuple[int, int] = (256, 256)
    fit: Literal["crop", "resize", "shorter"] = "crop"
    flip: bool = False
    masks: str = ""
    mask_pairing: Literal["name", "seed"] = "name"
    mask_convention: Literal["hole-white", "hole-black", "alpha", "nonzero"] = "hole-white"
    max_broken: float = 0.01
    shuffle: bool = True
    length: int = 4096
