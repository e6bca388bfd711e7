//! Reading again what was written.

use std::fmt::Debug;

use crate::wire::{field::Field, msgpack::Reader};

/// Checker that encodes a value, decodes the bytes, and compares the result with the value.
#[derive(Clone, Copy)]
pub(super) struct Again;

impl Again {
    pub(super) fn check<T: Field + Debug + PartialEq>(self, value: &T) {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        assert_eq!(T::decode(&mut Reader::new(&bytes)).as_ref(), Ok(value));
    }
}
