"""Keras configurations: which classes and functions loading makes of them, by JSON, in .keras, HDF5 and SavedModels."""

from __future__ import annotations

import re
from typing import Any

from services.inventory.modelfiles.names import judge
from services.inventory.modelfiles.report import Scan, Verdict, quoted

VALUES_LIMIT = 2_000_000
_SERIALIZERS = re.compile(
    r"(?:tf_)?(?:keras|tensorflow\.keras|tensorflow\.python\.keras|keras_hub|keras_nlp|keras_cv)(?:\.src|\.api(?:\._v2)?)*"
    r"(?:\.keras)?\.(?:layers|models|initializers|regularizers|constraints|optimizers|losses|metrics|activations|"
    r"dtype_policies|quantizers|engine|trainers|legacy|applications|backend|random|ops|tokenizers|samplers)"
    r"(?:\.\w+)*"
)
_RISKY_IN_KERAS = {
    "TFSMLayer": "loads a SavedModel from a path",
    "TorchModuleWrapper": "loads a pickle with PyTorch",
    "FlaxLayer": "runs a function that is restored from the file",
    "JaxLayer": "runs a function that is restored from the file",
    "TFOpLambda": None,
    "SlicingOpLambda": None,
    "ClassMethod": None,
    "InstanceMethod": None,
}
_CLASS_NAME = re.compile(r"_?[A-Z]\w*")
_LAMBDA_FORMS = frozenset({"__lambda__", "Lambda", "lambda"})
_READS_PATHS = frozenset(
    {"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup", "Hashing", "BytePairTokenizer"}
)
_STOCK = frozenset(
    """Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention AutoContrast Average
    AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization
    BatchNormalizationV1 Bidirectional CategoryEncoding CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D
    Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D Convolution2D Cropping1D
    Cropping2D Cropping3D CuDNNGRU CuDNNLSTM Dense DenseFeatures DepthwiseConv1D DepthwiseConv2D Discretization Dot
    Dropout ELU EinsumDense Embedding Equalizer Flatten GELU GRU GRUCell GaussianDropout GaussianNoise
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPool1D GlobalMaxPool2D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention HashedCrossing
    Hashing Identity InputLayer InputSpec IntegerLookup LSTM LSTMCell LayerNormalization LeakyReLU LocallyConnected1D
    LocallyConnected2D Masking MaxPool1D MaxPool2D MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum
    MultiHeadAttention Multiply Normalization PReLU Permute RMSNormalization RNN RandomBrightness RandomContrast
    RandomCrop
    RandomFlip RandomHeight RandomRotation RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling
    Reshape Resizing STFTSpectrogram SeparableConv1D SeparableConv2D SeparableConvolution2D SimpleRNN SimpleRNNCell
    Softmax
    SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup Subtract
    TextVectorization ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D Wrapper
    ZeroPadding1D ZeroPadding2D ZeroPadding3D Functional Model Sequential
    Constant GlorotNormal GlorotUniform HeNormal HeUniform IdentityInitializer LecunNormal LecunUniform Ones Orthogonal
    RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros L1 L2 L1L2 OrthogonalRegularizer MaxNorm MinMaxNorm
    NonNeg UnitNorm Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lion LossScaleOptimizer Muon Nadam RMSprop SGD
    CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay
    BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy CategoricalFocalCrossentropy CategoricalHinge
    CosineSimilarity
    Dice Hinge Huber KLDivergence LogCosh MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError
    MeanSquaredLogarithmicError Poisson SparseCategoricalCrossentropy SquaredHinge Tversky AUC Accuracy BinaryAccuracy
    BinaryIoU CategoricalAccuracy F1Score FBetaScore FalseNegatives FalsePositives IoU Mean MeanIoU MeanMetricWrapper
    OneHotIoU OneHotMeanIoU Precision PrecisionAtRecall R2Score Recall RecallAtPrecision RootMeanSquaredError
    SensitivityAtSpecificity SparseCategoricalAccuracy SparseTopKCategoricalAccuracy SpecificityAtSensitivity Sum
    TopKCategoricalAccuracy TrueNegatives TruePositives DTypePolicy Policy FloatDTypePolicy QuantizedDTypePolicy
    QuantizedFloat8DTypePolicy DTypePolicyMap TensorShape TypeSpec TFOpLambda SlicingOpLambda ClassMethod InstanceMethod
    __tensor__ __numpy__ __bytes__ __ellipsis__ __slice__ __typespec__ __keras_tensor__ __tuple__ __list__ __dict__
    CompileMetrics CompileLoss
    MaskedSoftmax KerasTensor SeedGenerator""".split()
)


def scan_config(scan: Scan, config: Any, where: str) -> None:
    """Judge every object of a parsed configuration that loading would make."""
    pending: list[Any] = [config]
    values = 0
    while pending:
        value = pending.pop()
        values += 1
        if values > VALUES_LIMIT:
            scan.suspicious(
                "too_large", where, f"a configuration of more than {VALUES_LIMIT} values: not read to its end"
            )
            return
        if isinstance(value, dict):
            if isinstance(value.get("class_name"), str):
                _judge(scan, value, where)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _judge(scan: Scan, entry: dict[str, Any], where: str) -> None:
    name: str = entry["class_name"]
    inner = entry.get("config")
    module = entry.get("module")
    registered = entry.get("registered_name")
    short = name.rpartition(">")[2].rpartition(".")[2]
    if short in _LAMBDA_FORMS or (isinstance(inner, dict) and inner.get("function_type") == "lambda"):
        scan.unsafe(
            "keras_lambda", where, "a Lambda layer: Python code out of the file runs when it is loaded or called"
        )
        return
    risk = _RISKY_IN_KERAS.get(short)
    if risk:
        scan.unsafe("keras_loader", where, f"{quoted(short)} {risk}")
    if short in _READS_PATHS and isinstance(inner, dict):
        for key in ("vocabulary", "vocabulary_file", "idf_weights", "merges"):
            if isinstance(inner.get(key), str) and inner[key]:
                scan.suspicious("keras_reads_file", where, f"{short} reads the file or address {quoted(inner[key])}")
    if isinstance(module, str) and module:
        _judge_module(scan, module, name, inner, where)
    elif name == "function" and isinstance(inner, str):
        _judge_function(scan, "builtins", inner, where)
    elif ">" in name or short not in _STOCK:
        scan.suspicious("custom_object", where, f"{quoted(name)} is none of Keras' own classes: its code is elsewhere")
    if isinstance(registered, str) and ">" in registered and not registered.startswith(("keras", "Keras")):
        scan.suspicious("custom_object", where, f"{quoted(registered)} is registered by code that is elsewhere")


def _judge_module(scan: Scan, module: str, name: str, inner: Any, where: str) -> None:
    if name == "function":
        if isinstance(inner, str):
            _judge_function(scan, module, inner, where)
        return
    if _SERIALIZERS.fullmatch(module) and _CLASS_NAME.fullmatch(name):
        return
    if module in ("keras", "tf_keras") and name in _STOCK:
        return
    if module == "builtins" and name in _STOCK | {"dict", "list", "tuple", "str", "int", "float", "bool", "slice"}:
        return
    verdict, why = judge(module, name)
    if verdict is Verdict.UNSAFE:
        scan.unsafe("keras_module", where, f"loading imports it: {why}")
    else:
        scan.suspicious(
            "keras_module", where, f"loading imports {quoted(f'{module}.{name}')}, which is none of Keras' own"
        )


def _judge_function(scan: Scan, module: str, name: str, where: str) -> None:
    verdict, why = judge(module, name)
    if verdict is Verdict.UNSAFE:
        scan.unsafe("keras_module", where, f"loading imports it: {why}")
    elif not _SERIALIZERS.fullmatch(module):
        scan.suspicious("custom_object", where, f"the function {quoted(f'{module}.{name}')} is none of Keras' own")
