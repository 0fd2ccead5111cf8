"""The families that are read and written, first match first. A new one is a file here and a line."""

from mmjax.convert.families import bert, clip, coca, efficientnet, lxmert, resnet, siglip, vilt, visualbert, vit, whisper

FAMILIES = (
    clip.HF,
    clip.OPEN_CLIP,
    coca.OPEN_CLIP,
    resnet.CLIP,
    siglip.HF,
    siglip.NPZ,
    lxmert.HF,  # before BERT, as VisualBERT, and ViLT before ViT, whose marks they have too
    visualbert.HF,
    vilt.HF,
    vit.DINO,
    vit.VIT,
    resnet.HF,
    bert.HF,
    bert.ROBERTA,
    bert.XLMR,
    efficientnet.LITE0,
    whisper.HF,
    whisper.CT2,
)
