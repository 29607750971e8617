"""Reads pickles of torch files with an interpreter for tensors and plain values only.

Python's own unpickler runs whatever a pickle asks for, and can be made to allocate or to compute
without end by one that asks for nothing. This one is a loop over the opcodes that data needs.
"""

import pickletools
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, cast

import ml_dtypes
import numpy as np

from esrgan_jax.errors import InputError
from esrgan_jax.interop.mapped_file import Stream

LONGEST_KEY = 200  # of a storage, which is a number
MAX_INT_KEY = 2**60  # integers beyond can be chosen to collide as keys of a dict

STORAGE_DTYPES = {
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "DoubleStorage": np.dtype(np.float64),
    "IntStorage": np.dtype(np.int32),
    "LongStorage": np.dtype(np.int64),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
FUNCTIONS = (
    "collections OrderedDict",
    "collections Counter",  # the milestones of a schedule
    "torch._utils _rebuild_tensor",  # torch before 0.4
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch Size",
    "torch device",
)
PUSHED = {  # opcodes that only put their argument on the stack; the strings are Python 2's
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class Storage(NamedTuple):
    """Elements kept outside the pickle: `numel` of them from `start` on in the storage `key`."""

    dtype: np.dtype
    key: str
    start: Any
    numel: Any


class _Function(NamedTuple):
    """One of FUNCTIONS on the stack; a separate type, so that no string can pass for one."""

    name: str


def load(stream: Stream, make_tensor: Callable[..., Any]) -> Any:
    """Reads one pickle; the stream is then at its end.

    Args:
        stream: Bounds how much is read, and with it the time and the memory.
        make_tensor: Called with a Storage, an offset and tuples of sizes and of strides, all in
            elements and all still to be checked; gives an array, or None.

    Raises:
        ValueError, TypeError, LookupError: The pickle is malformed or asks for something else.
            The message never quotes more than a name: a hostile value can be too long to print.
    """
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks under each open mark
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, below.pop()
        return items

    for opcode, parsed, _ in pickletools.genops(cast(BinaryIO, stream)):
        argument = cast(Any, parsed)
        match opcode.name:
            case name if name in PUSHED:
                stack.append(argument)
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "MARK":
                below.append(stack)
                stack = []
            case "TUPLE":
                items = since_mark()
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                items = [stack.pop() for _ in range(int(name[-1]))]
                stack.append(tuple(reversed(items)))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND":
                item = stack.pop()
                _extend(stack[-1], [item])
            case "APPENDS":
                items = since_mark()
                _extend(stack[-1], items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _assign(stack[-1], [(key, value)])
            case "SETITEMS":
                items = since_mark()
                _assign(stack[-1], zip(items[::2], items[1::2], strict=True))
            case "GLOBAL":
                module, _, name = argument.partition(" ")
                stack.append(_find(module, name))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_find(module, name))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_call(function, arguments, make_tensor))
            case "BUILD":  # attributes of an OrderedDict: the _metadata of a state_dict
                stack.pop()
                if type(stack[-1]) is not dict:
                    raise ValueError("its pickle sets attributes of an object that has none")
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "STOP":
                return stack.pop()
            case "PROTO" | "FRAME":
                pass
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case name:
                raise ValueError(f"its pickle uses {name}, which tensors and plain values do not")
    raise ValueError("its pickle has no end")


def _find(module: Any, name: Any) -> np.dtype | _Function:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ValueError("its pickle asks for a global without a name")
    if module.startswith("__torch__"):
        raise ValueError("it is a TorchScript program, not the weights alone")
    if module == "torch" and name in STORAGE_DTYPES:
        return STORAGE_DTYPES[name]
    if f"{module} {name}" in FUNCTIONS:
        return _Function(f"{module} {name}")
    raise ValueError(
        f"its pickle asks for {module:.80}.{name:.80}, which is neither a tensor nor a plain value "
        "(nothing was executed)"
    )


def _call(function: Any, arguments: Any, make_tensor: Callable[..., Any]) -> Any:
    match function, arguments:
        case _Function("collections OrderedDict"), ():
            return {}
        case _Function("collections OrderedDict"), (list(pairs),):  # written by Python 2
            mapping: dict[Any, Any] = {}
            _assign(mapping, pairs)
            return mapping
        # Without a copy: a pickle could ask for copies of a memo any number of times.
        case _Function("collections Counter"), (dict(items),):
            return items
        case _Function("torch Size"), (tuple(items),):
            return items
        case _Function("torch device"), (str(kind), *_):
            return kind
        case _Function("torch._utils _rebuild_parameter"), (np.ndarray() | None as tensor, *_):
            return tensor
        case (
            _Function("torch._utils _rebuild_tensor" | "torch._utils _rebuild_tensor_v2"),
            (Storage() as storage, offset, tuple(shape), tuple(strides), *_),
        ):
            return make_tensor(storage, offset, shape, strides)
        case _:
            raise ValueError("its pickle calls a function with wrong arguments")


def _storage(identity: Any) -> Storage:
    match identity:
        case (_, _, str(key), *_) if len(key) > LONGEST_KEY:
            pass
        case ("storage", np.dtype() as dtype, str(key), _, numel):
            return Storage(dtype, key, 0, numel)
        case ("storage", np.dtype() as dtype, str(key), _, numel, None):
            return Storage(dtype, key, 0, numel)
        case ("storage", np.dtype() as dtype, str(key), _, _, (_, start, numel)):
            return Storage(dtype, key, start, numel)
        case _:
            pass
    raise ValueError("its pickle refers to an external object that is not a storage of torch")


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is not list:
        raise ValueError("its pickle appends to an object that is not a list")
    target.extend(items)


def _assign(target: Any, pairs: Iterable[Any]) -> None:
    if type(target) is not dict:
        raise ValueError("its pickle sets items of an object that is not a mapping")
    for key, value in pairs:
        # A nested tuple can take exponential time to hash, or overflow the C stack.
        if not isinstance(key, str | bytes) and not (
            isinstance(key, int) and abs(key) < MAX_INT_KEY
        ):
            raise ValueError(f"its pickle has a mapping with a {type(key).__name__} as a key")
        target[key] = value


def dump(value: Any, storages: list[np.ndarray]) -> bytes:
    """Returns torch.save's pickle (protocol 2) of mappings of arrays and plain values.

    The arrays, in C order, are added to `storages`; the key of each is its index there.

    Raises:
        InputError: A value or an element type that a torch file cannot hold, with its key.
    """
    return b"\x80\x02" + b"".join(_opcodes(value, "the state", storages)) + b"."


_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"
_STORAGES = {dtype: f"ctorch\n{name}\n".encode() for name, dtype in STORAGE_DTYPES.items()}


def _opcodes(value: Any, name: str, storages: list[np.ndarray]) -> Iterator[bytes]:
    match value:
        case None:
            yield b"N"
        case bool():
            yield b"\x88" if value else b"\x89"
        case int() if abs(value) < 2**63:
            yield b"\x8a\x09" + value.to_bytes(9, "little", signed=True)
        case float():
            yield b"G" + struct.pack(">d", value)
        case str():
            yield b"X" + struct.pack("<I", len(text := value.encode())) + text
        case tuple():
            yield b"("
            for item in value:
                yield from _opcodes(item, name, storages)
            yield b"t"
        case Mapping():
            yield _ORDERED_DICT + b"("
            for key, item in value.items():
                yield from _opcodes(str(key), name, storages)
                yield from _opcodes(item, str(key), storages)
            yield b"u"
        case _ if hasattr(value, "__array__"):
            array = np.asarray(value, order="C")
            if array.dtype not in _STORAGES:
                raise InputError(f"{name}: a torch file cannot hold elements of {array.dtype}")
            strides = tuple(stride // array.itemsize for stride in array.strides)
            yield b"ctorch._utils\n_rebuild_tensor_v2\n(("
            yield from _opcodes("storage", name, storages)
            yield _STORAGES[array.dtype]
            for item in (str(len(storages)), "cpu", array.size):
                yield from _opcodes(item, name, storages)
            yield b"tQ"
            for item in (0, array.shape, strides, False):
                yield from _opcodes(item, name, storages)
            yield _ORDERED_DICT + b"tR"
            storages.append(array)
        case _:
            raise InputError(f"{name}: a torch file cannot hold a {type(value).__name__}")
