"""What may be thought of a Python name that a model file asks for.

The list that counts is the one of names that are known to be harmless: they keep what a file gives them, or compute
with it. Whatever is not on it cannot be judged, and is suspicious. The lists of dangerous names only say which of those
are known to run code, to read or write files or to call addresses; a gadget that nobody has found yet is still not
clean.
"""

from __future__ import annotations

import _compat_pickle
import re
import sys
from functools import lru_cache

from services.inventory.modelfiles.report import Verdict

_HARMLESS: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple "
        "Ellipsis NotImplemented",
        "collections": "OrderedDict Counter defaultdict deque ChainMap UserDict UserList",
        "copyreg": "_reconstructor __newobj__",
        "_codecs": "encode",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
        "types": "SimpleNamespace",
        "uuid": "UUID SafeUUID",
        "argparse": "Namespace",
        "array": "_array_reconstructor array",
        "numpy": "dtype ndarray matrix bool_ bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 "
        "float64 complex64 complex128 str_ bytes_ void object_ generic number datetime64 timedelta64 intc intp "
        "longlong ulonglong",
        "numpy.core.multiarray": "_reconstruct scalar",
        "numpy._core.multiarray": "_reconstruct scalar",
        "numpy.core.numeric": "_frombuffer",
        "numpy._core.numeric": "_frombuffer",
        "numpy.ma.core": "MaskedArray _mareconstruct",
        "numpy.random": "RandomState Generator",
        "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
        "numpy.random.__generator": "Generator",
        "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64",
        "scipy.sparse._csr": "csr_matrix csr_array",
        "scipy.sparse._csc": "csc_matrix csc_array",
        "scipy.sparse._coo": "coo_matrix coo_array",
        "scipy.sparse.csr": "csr_matrix",
        "scipy.sparse.csc": "csc_matrix",
        "joblib.numpy_pickle": "NumpyArrayWrapper",
        "torch": "Size device dtype memory_format layout Tensor Generator strided contiguous_format preserve_format "
        "channels_last bool uint8 int8 int16 int32 int64 float16 float32 float64 half float double short int long "
        "bfloat16 complex64 complex128 cfloat cdouble quint8 qint8 qint32 float8_e4m3fn float8_e5m2 "
        "per_tensor_affine per_channel_affine uint16 uint32 uint64",
        "torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter "
        "_rebuild_parameter_with_state _rebuild_qtensor _rebuild_sparse_tensor _rebuild_meta_tensor_no_storage "
        "_rebuild_sparse_csr_tensor _rebuild_device_tensor_from_numpy",
        "torch._tensor": "_rebuild_from_type_v2 Tensor",
        "torch.tensor": "_rebuild_from_type Tensor",
        "torch.storage": "TypedStorage UntypedStorage",
        "torch.nn.parameter": "Parameter Buffer",
        "torch.serialization": "_get_layout",
        "torch.jit._pickle": "build_intlist build_tensorlist build_doublelist build_boollist "
        "build_tensor_from_id restore_type_tag",
        "torch.optim.adam": "Adam",
        "torch.optim.adamw": "AdamW",
        "torch.optim.sgd": "SGD",
        "transformers.training_args": "TrainingArguments OptimizerNames ParallelMode",
        "transformers.trainer_utils": "IntervalStrategy SchedulerType HubStrategy SaveStrategy FSDPOption",
        "transformers.trainer_pt_utils": "AcceleratorConfig",
        "accelerate.utils.dataclasses": "DistributedType DeepSpeedPlugin",
        "accelerate.state": "PartialState",
    }.items()
}
_TORCH_STORAGES = frozenset(
    f"{kind}Storage"
    for kind in "Double Float Half Long Int Short Char Byte Bool BFloat16 ComplexDouble ComplexFloat QUInt8 QInt8 "
    "QInt32 QUInt4x2 QUInt2x4 Untyped Typed".split()
)
_CLASS_FAMILIES = (
    # Estimators and layers: their __new__, __setstate__ and attributes run nothing of the file's; functions that they
    # hold are names of their own, and are judged as such.
    re.compile(
        r"sklearn\.(?:linear_model|tree|ensemble|svm|naive_bayes|neighbors|cluster|decomposition|preprocessing|"
        r"pipeline|compose|impute|feature_extraction|feature_selection|discriminant_analysis|neural_network|mixture|"
        r"calibration|isotonic|multiclass|multioutput|gaussian_process|model_selection|dummy|covariance|"
        r"cross_decomposition|kernel_ridge|manifold|random_projection|semi_supervised|kernel_approximation|_loss|"
        r"metrics\._dist_metrics|utils\._bunch)(?:\.\w+)*"
    ),
    re.compile(r"torch\.nn\.modules\.\w+"),
)
_CLASS_NAME = re.compile(r"_?[A-Z][A-Za-z0-9]*")
_SKLEARN_NOT = frozenset({"FunctionTransformer"})

_DANGEROUS_ROOTS = frozenset(
    # What starts programs, imports, compiles, evaluates, traces or debugs; files and networks; and whatever serves
    # such names to others. Modules of the standard library that hold nothing else are here whole.
    """
    os posix nt ntpath posixpath subprocess _posixsubprocess _winapi commands popen2 pty tty sys importlib imp _imp
    _frozen_importlib _frozen_importlib_external runpy pkgutil zipimport zipapp code codeop bdb pdb trace profile
    cProfile _lsprof timeit doctest unittest test pydoc pydoc_data idlelib lib2to3 ensurepip venv distutils setuptools
    pkg_resources _distutils_hack pip site sitecustomize usercustomize ctypes _ctypes cffi _cffi_backend marshal pickle
    _pickle cPickle pickletools shelve dbm shutil tempfile glob io _io _pyio fileinput linecache tokenize mmap socket
    _socket socketserver ssl _ssl select selectors http httplib urllib urllib2 ftplib telnetlib smtplib smtpd poplib
    imaplib nntplib xmlrpc webbrowser antigravity asyncio asyncore asynchat multiprocessing _multiprocessing concurrent
    threading _thread thread signal faulthandler gc inspect dis ast symtable compileall py_compile
    operator _operator _osx_support _aix_support _pyrepl _sysconfigdata sysconfig platform
    readline rlcompleter cmd tkinter turtle turtledemo sqlite3 atexit pwd grp spwd
    crypt fcntl termios winreg msvcrt _winreg nturl2path cgi cgitb wsgiref mailbox mailcap netrc tarfile
    zipfile gzip bz2 lzma _bz2 _lzma tracemalloc _xxsubinterpreters _interpreters getpass this
    requests httpx aiohttp urllib3 httplib2 pycurl paramiko fabric invoke sh plumbum pexpect ptyprocess psutil
    IPython ipykernel jupyter_client jupyter_core nbconvert jedi pytest _pytest nose dill cloudpickle
     jsonpickle ruamel jinja2 mako werkzeug flask django tornado twisted sqlalchemy fsspec smart_open
    s3fs gcsfs boto3 botocore docker kubernetes git gitdb nltk sympy numexpr cython Cython pyximport
    execnet gevent eventlet celery luigi pyspark bottle cherrypy pudb debugpy pydevd psycopg2 pymysql
    win32api win32com pythoncom comtypes clr keyring selenium playwright pyautogui watchdog wget gdown kaggle

    """.split()
)
_DANGEROUS_MODULES = (
    "numpy.f2py", "numpy.testing", "numpy.distutils", "numpy.ctypeslib", "numpy.lib.npyio", "numpy.lib._npyio_impl",
    "numpy.lib.utils", "numpy.lib._datasource", "numpy._pytesttester", "numpy.compat.py3k",
    "torch.hub", "torch.package", "torch.utils.cpp_extension", "torch.utils._config_module", "torch.utils.collect_env",
    "torch.utils.bottleneck", "torch.utils.data.datapipes", "torch.utils.model_dump", "torch.utils.hipify",
    "torch._inductor", "torch._dynamo", "torch._export", "torch._functorch", "torch.fx", "torch.jit.frontend",
    "torch.jit.unsupported_tensor_ops", "torch.jit._script", "torch.jit._serialization", "torch.distributed",
    "torch.multiprocessing", "torch.testing", "torch.onnx", "torch.export", "torch.compiler", "torch._classes",
    "torch._ops", "torch.ops", "torch.classes", "torch._sources", "torch._C", "torch.profiler", "torch._numpy.testing",
    "torch._appdirs", "torch._vendor", "torchvision.datasets", "torchvision.io", "torchaudio.utils", "scipy.io",
    "scipy._lib._testutils", "scipy.weave", "pandas.io", "pandas.core.computation", "pandas.compat.pickle_compat",
    "pandas._testing", "pandas.util._print_versions", "joblib.numpy_pickle_utils", "joblib.externals",
    "joblib._parallel_backends",
    "joblib.parallel", "joblib.memory", "joblib.func_inspect", "joblib.pool", "matplotlib.cbook", "matplotlib.testing",
    "keras.utils", "keras.src.utils", "keras.saving", "keras.src.saving", "keras.models", "keras.config",
    "keras.src.export", "keras.src.legacy.saving", "tensorflow.io", "tensorflow.raw_ops", "tensorflow.keras.utils",
    "tensorflow.keras.models", "tensorflow.python.ops.gen_io_ops", "tensorflow.python.ops.script_ops",
    "tensorflow.python.lib.io", "tensorflow.python.platform", "tensorflow.python.framework.load_library",
    "tensorflow.python.saved_model", "tensorflow.compat", "transformers.dynamic_module_utils", "transformers.utils.hub",
    "transformers.tools", "datasets.load", "huggingface_hub.keras_mixin", "lightgbm.libpath",
    "paddle.utils", "paddle.jit", "mlflow.pyfunc", "mlflow.projects", "mlflow.utils", "hydra.utils", "hydra._internal",
    "pytorch_lightning.utilities.cloud_io", "fickling", "xml.sax", "xml.dom", "ray.cloudpickle",
)  # fmt: skip
_DANGEROUS_NAMES: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "builtins": "eval exec execfile compile open getattr setattr delattr __import__ breakpoint apply input globals "
        "locals vars map filter reduce type super property classmethod staticmethod help exit quit  "
        "file raw_input reload iter next print_ copyright credits license",
        "types": "CodeType FunctionType LambdaType MethodType ModuleType BuiltinFunctionType DynamicClassAttribute "
        "new_class coroutine",
        "functools": "partial partialmethod reduce singledispatch cached_property lru_cache ",
        "_functools": "partial reduce",
        "itertools": "starmap accumulate filterfalse takewhile dropwhile groupby",
        "copyreg": "add_extension constructor pickle __reduce_ex__",
        "codecs": "open lookup getreader getwriter EncodedFile StreamReaderWriter",
        "_codecs": "lookup register decode",
        "uuid": "_get_command_stdout _popen _find_mac _ifconfig_getter _ip_getter _arp_getter _lanscan_getter",
        "torch": "load save compile hub ops classes _import_dotted_name import_ir_module",
        "torch.serialization": "load _load _legacy_load save _save StorageType add_safe_globals _open_file",
        "torch.jit": "load save script trace CompilationUnit",
        "numpy": "load loads save savez fromfile memmap loadtxt genfromtxt vectorize fromregex savetxt "
        "apply_along_axis fromfunction piecewise test DataSource",
        "numpy.lib.format": "read_array open_memmap write_array",
        "pandas": "read_pickle read_csv read_json eval read_html read_xml read_sql read_hdf read_parquet read_table",
        "joblib": "load dump Parallel delayed Memory ",
        "joblib.numpy_pickle": "load dump load_compatibility _unpickle",
        "yaml": "load load_all unsafe_load full_load unsafe_load_all full_load_all",
        "random": "_test _test_generator _os ",
        "pathlib": "Path.write_text Path.write_bytes Path.unlink Path.open Path.read_text Path.read_bytes Path.rmdir",
        "scipy": "test",
        "transformers": "pipeline AutoModel Tool load_tool",
        "tensorflow": "py_function numpy_function load_library load_op_library",
        "logging": "FileHandler basicConfig _open",
        "logging.config": "fileConfig dictConfig listen",
        "logging.handlers": "SocketHandler HTTPHandler SMTPHandler RotatingFileHandler SysLogHandler",
    }.items()
}
_TELLING = re.compile(
    # Last parts of names that run, import, evaluate, load or fetch, whatever module has them.
    r"(?:_*(?:eval|exec|system|popen\w*|spawn\w*|fork|execv\w*|check_output|check_call|run_?(?:string|command|code|path|"
    r"module|pip|cmd|script|line_magic|cell)|runstring|runcode|import_module|__import__|dlopen|load_library|get_file|"
    r"read_pickle|from_pretrained|resolve_name|locate|load_module|exec_module|urlopen|urlretrieve|rmtree|unlink|"
    r"exec_?[Ww]rapper|unsafe_load|safe_exec|getattr|attrgetter|methodcaller|run_cprofile|call_subprocess|Popen|"
    r"load_from_bytes|loads|evaluate_guards_expression|interact|subimport))"
)
_DUNDERS = re.compile(
    r"__(?:globals|builtins|subclasses|code|class|bases|mro|dict|getattribute|import|loader|func|self|call|init|new|"
    r"reduce|reduce_ex|setstate|closure|wrapped|spec|subclasshook|getattr)__"
)
MADE_EMPTY = frozenset(
    {
        "transformers.training_args.TrainingArguments",
        "transformers.trainer_pt_utils.AcceleratorConfig",
        "accelerate.utils.dataclasses.DeepSpeedPlugin",
        "accelerate.state.PartialState",
    }
)
"""Classes that are harmless as picklers restore them, empty and then filled; called with arguments they read files."""
_LOADS_ITS_ARGUMENT = frozenset({"torch.storage._load_from_bytes"})
"""Tensors that were pickled without torch.save have their bytes loaded by it; those bytes are looked at themselves."""


def _within(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(parent + ".") for parent in parents)


def current(module: str, name: str) -> tuple[str, str]:
    """Where a name of Python 2 is today: a loader maps them before it imports."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        return _compat_pickle.NAME_MAPPING[module, name]
    return _compat_pickle.IMPORT_MAPPING.get(module, module), name


@lru_cache(maxsize=4_096)
def judge(module: str, name: str) -> tuple[Verdict, str]:
    """What may be thought of `module.name`, and why."""
    asked = module
    module, name = current(module, name)
    shown = f"{module}.{name}"
    if asked in _DANGEROUS_ROOTS:
        return Verdict.UNSAFE, f"{asked}.{name} is known to run code, or to reach files or the network"
    if shown in _LOADS_ITS_ARGUMENT:
        return Verdict.SUSPICIOUS, f"{shown} loads a file that is within this one"
    if name in _HARMLESS.get(module, ()) or (module in ("torch", "torch.cuda") and name in _TORCH_STORAGES):
        return Verdict.CLEAN, f"{shown} is known to be harmless"
    if (
        any(family.fullmatch(module) for family in _CLASS_FAMILIES)
        and _CLASS_NAME.fullmatch(name)
        and name not in _SKLEARN_NOT
    ):
        return Verdict.CLEAN, f"{shown} is a class of a known family"
    root = module.partition(".")[0]
    if root in _DANGEROUS_ROOTS or _within(module, _DANGEROUS_MODULES):
        return Verdict.UNSAFE, f"{shown} is known to run code, or to reach files or the network"
    first, last = name.partition(".")[0], name.rpartition(".")[2]
    listed = _DANGEROUS_NAMES.get(module, frozenset())
    if name in listed or first in listed or (root in _DANGEROUS_NAMES and first in _DANGEROUS_NAMES[root]):
        return Verdict.UNSAFE, f"{shown} is known to run code, or to reach files or the network"
    if any(_DUNDERS.fullmatch(part) for part in name.split(".")):
        return Verdict.UNSAFE, f"{shown} reaches into Python's own machinery"
    if _TELLING.fullmatch(last):
        return Verdict.UNSAFE, f"{shown} runs, imports or fetches, by its name"
    if _within(f"{module}.{name}", _DANGEROUS_MODULES):
        return Verdict.UNSAFE, f"{shown} leads to what runs code, or reaches files or the network"
    if root in sys.stdlib_module_names:
        return Verdict.SUSPICIOUS, f"{shown} is no part of a model that is known"
    return Verdict.SUSPICIOUS, f"{shown} is unknown: what it does with a file's arguments cannot be judged"
