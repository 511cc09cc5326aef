"""How much memory autograd needs: the bytes of the tensors that it keeps for the backward pass."""

import torch
from torch import Tensor


class SavedTensorBytes:
    """The bytes that autograd keeps for the backward pass, counted as tensors are saved and freed.

    Pass `pack` and `unpack` to `torch.autograd.graph.saved_tensors_hooks`. If several saved tensors share a storage,
    its bytes count once, until the last of them is freed. Storages are known by their addresses; a new storage may
    get the address of one that was freed.
    """

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self._holders: dict[int, int] = {}  # address of a storage -> number of saved tensors in it

    def pack(self, tensor: Tensor) -> "_SavedTensor":
        """Count a tensor that autograd saves."""
        # Detached: an output that refers to its own graph node would never be freed. Autograd attaches it again.
        return _SavedTensor(tensor.detach(), self)

    @staticmethod
    def unpack(held: "_SavedTensor") -> Tensor:
        """The saved tensor."""
        return held.tensor

    def add(self, storage: torch.UntypedStorage) -> None:
        """Count one more saved tensor in a storage."""
        holders = self._holders.get(storage.data_ptr(), 0)
        self._holders[storage.data_ptr()] = holders + 1
        if not holders:
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)

    def remove(self, storage: torch.UntypedStorage) -> None:
        """Count one saved tensor less in a storage."""
        self._holders[storage.data_ptr()] -= 1
        if not self._holders[storage.data_ptr()]:
            del self._holders[storage.data_ptr()]
            self.now -= storage.nbytes()


class _SavedTensor:
    """A saved tensor that is counted until autograd frees it."""

    def __init__(self, tensor: Tensor, memory: SavedTensorBytes) -> None:
        self.tensor, self.memory = tensor, memory
        memory.add(tensor.untyped_storage())

    def __del__(self) -> None:
        self.memory.remove(self.tensor.untyped_storage())
