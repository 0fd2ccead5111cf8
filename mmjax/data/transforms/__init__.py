"""Transforms of one record: `transform(record, rng) -> record`, listed in a config as {"name": ..., **keywords}.

A transform returns a new dict and leaves its input's arrays as they were, because sources may keep them. `rng` is the
record's own numpy Generator; transforms of a list draw from it in turn. Which of them are for training and which for
evaluation is said by the two lists of the config.
"""

from mmjax.data.transforms import image, text

TRANSFORMS = {
    "decode": image.Decode,
    "resize": image.Resize,
    "random_resized_crop": image.RandomResizedCrop,
    "random_shift": image.RandomShift,
    "colour_jitter": image.ColourJitter,
    "flip": image.Flip,
    "tokenise": text.Tokenise,
}
