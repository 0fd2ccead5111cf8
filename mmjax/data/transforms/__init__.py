"""Transforms of one record: `transform(record, rng) -> record`, listed in a config as {"name": ..., **keywords}.

A transform returns a new dict and leaves its input's arrays as they were, because sources may keep them. `rng` is the
record's own numpy Generator; transforms of a list draw from it in turn. Which of them are for training and which for
evaluation is said by the two lists of the config.
"""

import functools

from mmjax.data.transforms import answers, audio, augment, image, masking, regions, text, video

# Those of pictures, which are those of a video's frames too.
PICTURES = {
    "decode": image.Decode,
    "resize": image.Resize,
    "patches": image.Patches,
    "random_resized_crop": image.RandomResizedCrop,
    "random_shift": image.RandomShift,
    "colour_jitter": augment.ColourJitter,
    "flip": augment.Flip,
    "rand_augment": augment.RandAugment,
}
TRANSFORMS = {
    **PICTURES,
    "second_image": functools.partial(image.SecondImage, PICTURES),
    "pick_caption": text.PickCaption,
    "tokenise": text.Tokenise,
    "mask_tokens": masking.MaskTokens,
    "mask_regions": masking.MaskRegions,
    "named_squares": regions.NamedSquares,
    "one_square": regions.OneSquare,
    "answers": answers.Answers,
    "candidates": answers.Candidates,
    "decode_audio": audio.DecodeAudio,
    "fit_audio": audio.FitAudio,
    "whisper_log_mel": audio.WhisperLogMel,
    "ast_log_mel": audio.AstLogMel,
    "frames": functools.partial(video.Frames, PICTURES),
}
# What is left of a list of transforms where a record has, or is asked for, one modality alone.
OF_MODALITY = {
    "image": (*PICTURES,),
    "text": ("pick_caption", "tokenise", "mask_tokens"),
    "audio": ("decode_audio", "fit_audio", "whisper_log_mel", "ast_log_mel"),
}
