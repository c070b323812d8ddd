//! The payload of a message, and how the part of it that the kernel does not take is kept.

use std::cell::Cell;

use bytes::Bytes;

#[derive(Debug)]
pub struct Payload<'a> {
    bytes: &'a [u8],
    /// The buffer of `bytes`, if connections may share it.
    shared: Option<&'a Bytes>,
    /// Number of bytes that [`keep`](Self::keep) has copied.
    copied: Cell<usize>,
}

impl<'a> Payload<'a> {
    /// A payload that is copied if the kernel does not take it at once.
    pub fn borrowed(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            shared: None,
            copied: Cell::new(0),
        }
    }

    /// A payload that is never copied: each connection keeps a reference to the same buffer.
    pub fn shared(bytes: &'a Bytes) -> Self {
        Self {
            bytes,
            shared: Some(bytes),
            copied: Cell::new(0),
        }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Keeps `part`, a part of [`bytes`](Self::bytes), until it can be sent.
    pub fn keep(&self, part: &[u8]) -> Bytes {
        if let Some(shared) = self.shared {
            return shared.slice_ref(part);
        }
        self.copied.set(self.copied.get() + part.len());
        Bytes::copy_from_slice(part)
    }

    /// Number of bytes that [`keep`](Self::keep) has copied.
    pub fn copied(&self) -> usize {
        self.copied.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_payload_is_kept_without_a_copy() {
        let bytes = Bytes::from(vec![7; 1000]);
        let payload = Payload::shared(&bytes);
        let kept = payload.keep(&payload.bytes()[300..]);
        assert_eq!(kept.as_ptr(), bytes[300..].as_ptr());
        assert_eq!((kept.len(), payload.copied()), (700, 0));
    }

    #[test]
    fn copies_of_a_borrowed_payload_are_counted() {
        let bytes = vec![7; 1000];
        let payload = Payload::borrowed(&bytes);
        assert_eq!(payload.keep(&bytes[300..]), bytes[300..]);
        assert_eq!(payload.copied(), 700);
    }
}
