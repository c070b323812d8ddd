"""Checks the numbered messages of a stream."""


class Sequence:
    """Accepts only the next message: the first 8 bytes have its number, from 1."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.count = 0

    def add(self, message: bytes) -> None:
        number = int.from_bytes(message[:8], "little")
        assert number == self.count + 1, f"message {number} after message {self.count}"
        assert len(message) == self._size, f"message {number} has {len(message)} bytes"
        self.count = number

    def __str__(self) -> str:
        return f"{self.count} messages of {self._size} bytes"
