"""Classes that need no specimen, because they return no picture, and those that are not built yet."""

from .specimen import Specimen

__all__ = ["NOT_BUILT", "SPECIMENS"]

_SOUND = "returns sound and no picture"
_TEXT = "returns text and no picture"
_SOLID = "returns 3D meshes or renderings of them, from weights whose sizes are fixed by its class"
_ONNX = "runs ONNX files, which configurations cannot make"
_QFORMER = "its text encoder and query transformer are written for transformers 4"

SPECIMENS: tuple[Specimen, ...] = ()
NOT_BUILT: dict[str, str] = {
    **dict.fromkeys(
        (
            "AceStepPipeline",
            "AudioLDM2Pipeline",
            "AudioLDMPipeline",
            "DanceDiffusionPipeline",
            "LongCatAudioDiTPipeline",
            "MusicLDMPipeline",
            "StableAudio3AudioToAudioPipeline",
            "StableAudio3InpaintPipeline",
            "StableAudio3Pipeline",
            "StableAudioPipeline",
        ),
        _SOUND,
    ),
    **dict.fromkeys(("DiffusionGemmaPipeline", "LLaDA2Pipeline"), _TEXT),
    "RFD4ProteinaPipeline": "returns proteins and no picture",
    **dict.fromkeys(("ShapEImg2ImgPipeline", "ShapEPipeline"), _SOLID),
    **dict.fromkeys(
        (
            "OnnxStableDiffusionImg2ImgPipeline",
            "OnnxStableDiffusionInpaintPipeline",
            "OnnxStableDiffusionPipeline",
            "OnnxStableDiffusionUpscalePipeline",
            "StableDiffusionOnnxPipeline",
        ),
        _ONNX,
    ),
    **dict.fromkeys(("BlipDiffusionControlNetPipeline", "BlipDiffusionPipeline"), _QFORMER),
}
