//! Bytes that are shared instead of copied.
//!
//! A message can hold a patch of 60 MB. It arrives as one piece of memory, the envelope; the body is a part of it, and
//! the patch is a part of the body. Reading a [`Blob`] from such a piece takes that part of it, and keeps the whole
//! alive, where reading a `Vec<u8>` would copy it once on each level.

use std::{cell::RefCell, fmt, ops::Deref};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error, SeqAccess, Visitor},
};

/// Bytes of a message, or within one, that clones share.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(Bytes);

thread_local! {
    /// The bytes that are decoded now: a slice that serde passes on does not name its owner.
    static WHOLE: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// The size in bytes from which on parts are shared. A smaller message is copied, which costs less.
const SHARED_FROM: usize = 4096;

/// Decodes MessagePack. The blobs in it become parts of `whole`, if it is large.
pub(crate) fn decode<T: DeserializeOwned>(whole: &Blob) -> Result<T, rmp_serde::decode::Error> {
    if whole.len() < SHARED_FROM {
        return rmp_serde::from_slice(whole);
    }
    let before = WHOLE.replace(Some(whole.0.clone()));
    let decoded = rmp_serde::from_slice(whole);
    WHOLE.set(before);
    decoded
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

/// Shows the number of bytes only: they may be private.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E: Error>(self, part: &'de [u8]) -> Result<Blob, E> {
        WHOLE.with_borrow(|whole| match whole {
            Some(whole) if whole.as_ptr_range().contains(&part.as_ptr()) => {
                Ok(Blob(whole.slice_ref(part)))
            }
            _ => self.visit_bytes(part),
        })
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(bytes.into())
    }

    /// Reads bytes as a list of numbers: from formats without bytes, and from older messages.
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Blob, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = sequence.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Parcel {
        name: String,
        inner: Blob,
    }

    #[test]
    fn part_of_a_part_is_the_same_memory() {
        let content = Blob::from(vec![7; 100_000]);
        let pack = |name: &str, inner: &Blob| {
            let parcel = Parcel {
                name: name.to_owned(),
                inner: inner.clone(),
            };
            Blob::from(rmp_serde::to_vec_named(&parcel).expect("encoded"))
        };
        let whole = pack("outer", &pack("inner", &content));
        let outer: Parcel = decode(&whole).expect("decoded");
        let inner: Parcel = decode(&outer.inner).expect("decoded");
        assert_eq!(
            (outer.name.as_str(), inner.name.as_str()),
            ("outer", "inner")
        );
        assert_eq!(inner.inner, content);
        assert!(whole.as_ptr_range().contains(&inner.inner.as_ptr()));
        drop((whole, outer));
        assert_eq!(inner.inner, content, "it keeps what it is a part of");
    }

    #[test]
    fn without_a_whole_to_be_a_part_of_it_is_a_copy() {
        let parcel = Parcel {
            name: String::new(),
            inner: vec![1, 2, 3].into(),
        };
        let json = serde_json::to_string(&parcel).expect("encoded");
        assert_eq!(json, r#"{"name":"","inner":[1,2,3]}"#);
        assert_eq!(
            &*serde_json::from_str::<Parcel>(&json)
                .expect("decoded")
                .inner,
            [1, 2, 3]
        );
        let bytes = rmp_serde::to_vec_named(&parcel).expect("encoded");
        assert_eq!(
            &*rmp_serde::from_slice::<Parcel>(&bytes)
                .expect("decoded")
                .inner,
            [1, 2, 3]
        );
        let empty = rmp_serde::to_vec_named(&Parcel {
            name: String::new(),
            inner: Blob::default(),
        })
        .expect("encoded");
        assert_eq!(
            &*decode::<Parcel>(&empty.into()).expect("decoded").inner,
            b""
        );
    }
}
