"""Turn errors of the operating system, and lack of memory, into one sentence, for every command.

Bugs in tunit keep their traceback. With TUNIT_TRACEBACK=1 every error has one.
"""

import errno
import os

TRACEBACK = "TUNIT_TRACEBACK"  # environment variable
_LESS_MEMORY = "free some memory, or, in a training, lower --batch-size or --image-size"
_REMEDIES = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "check its permissions, or write elsewhere",
    errno.EPERM: "check its permissions, or write elsewhere",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.ENOENT: "check the path, and that nothing else has removed it meanwhile",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "check the path",
    errno.EEXIST: "give another name, or remove it",
    errno.ELOOP: "check its links",
    errno.EFBIG: "raise the limit of the size of files (ulimit -f), or write elsewhere",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close some programs",
    errno.ENOMEM: "free some memory",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or end some",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount it again",
    errno.ETXTBSY: "wait until nobody uses it",
    errno.EBUSY: "wait until nobody uses it",
}
# What a RuntimeError says that is no OutOfMemoryError, although a GPU's memory ran out: cuDNN's if there is no room
# for the workspace of any algorithm, cuBLAS's, and the driver's.
GPU_MEMORY = (
    "unable to find an engine to execute this computation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
)
_MEMORY = ("can't allocate memory", "out of memory", "cannot allocate memory", "bad_alloc")
_NO_THREAD = "can't start new thread"  # Python's message if memory or a limit prevents a new thread
_WRITING = ("PytorchStreamWriter failed", "No space left on device", "File too large", "Disk quota exceeded")


def sentence_of(error: BaseException) -> str | None:
    """One sentence for an error of the machine or the disk; None for an error that may be a bug in tunit."""
    if os.environ.get(TRACEBACK):
        return None
    if isinstance(error, MemoryError):
        return f"there is not enough memory{_detail(error)}: {_LESS_MEMORY}"
    if isinstance(error, OSError):
        return _of_system(error)
    text = str(error)
    # PyTorch and safetensors put the system's message into their own errors.
    if type(error).__module__.partition(".")[0] in ("builtins", "torch", "safetensors"):
        if isinstance(error, RuntimeError) and text == _NO_THREAD:
            return f"{text}: free some memory, or raise the limit of processes (ulimit -u)"
        if isinstance(error, RuntimeError) and _says_memory(text):
            return f"there is not enough memory ({_first_line(text)}): {_LESS_MEMORY}"
        if any(part in text for part in _WRITING):
            return f"a file cannot be written ({_first_line(text)}): free some space, or write elsewhere"
    return None


def _says_memory(text: str) -> bool:
    return any(part in text.lower() for part in _MEMORY) or any(part in text for part in GPU_MEMORY)


def _of_system(error: OSError) -> str | None:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if error.errno is None or (error.errno not in _REMEDIES and not names):
        return None
    reason = error.strerror or os.strerror(error.errno)
    remedy = _REMEDIES.get(error.errno, "check this file")
    return f"{' to '.join(names)}: {reason}: {remedy}" if names else f"{reason}: {remedy}"


def _detail(error: BaseException) -> str:
    text = _first_line(str(error))
    return f" ({text})" if text else ""


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
