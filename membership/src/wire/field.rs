//! Structs as msgpack maps: one declaration generates a struct, its encoder and its tolerant decoder.

use super::msgpack::{self, DecodeError, Reader};

/// Value that can be a field of a message. A nil decodes as the type's default, as in Go.
pub trait Field: Sized {
    /// Decodes a value at the reader's position, and advances the reader past it.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Appends the encoded value to `out`.
    fn encode(&self, out: &mut Vec<u8>);
    /// Returns whether an optional field with this value is omitted.
    fn is_empty(&self) -> bool {
        false
    }
}

macro_rules! int_field {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Self::try_from(reader.int()?).map_err(|_| DecodeError::OutOfRange)
            }
            fn encode(&self, out: &mut Vec<u8>) {
                msgpack::write_uint(out, u64::from(*self));
            }
            fn is_empty(&self) -> bool {
                *self == 0
            }
        }
    )*};
}
int_field!(u8, u16, u32, u64);

impl Field for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.bool()
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(if *self { 0xc3 } else { 0xc2 });
    }
}

/// Floating-point number stored as its bits, so that messages can be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Float(u64);

impl From<f64> for Float {
    fn from(value: f64) -> Self {
        Self(value.to_bits())
    }
}

impl From<Float> for f64 {
    fn from(value: Float) -> Self {
        Self::from_bits(value.0)
    }
}

impl Field for Float {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(reader.float()?.into())
    }
    fn encode(&self, out: &mut Vec<u8>) {
        msgpack::write_float(out, (*self).into());
    }
}

/// Bytes or nil. Agents distinguish nil and empty in what they write, but never in what they read.
impl Field for Option<Vec<u8>> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.bytes()
    }
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Some(bytes) => msgpack::write_raw(out, bytes),
            None => msgpack::write_nil(out),
        }
    }
    fn is_empty(&self) -> bool {
        self.as_ref().is_none_or(Vec::is_empty)
    }
}

impl Field for Vec<u8> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(reader.bytes()?.unwrap_or_default())
    }
    fn encode(&self, out: &mut Vec<u8>) {
        msgpack::write_raw(out, self);
    }
}

/// List of values other than bytes; `None` is nil, which readers treat as an empty list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Option<Vec<T>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(list: Vec<T>) -> Self {
        Self(Some(list))
    }
}

impl<T> List<T> {
    /// Returns the elements; empty for nil.
    pub fn as_slice(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<T: Field> Field for List<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let Some(len) = reader.array()? else { return Ok(Self(None)) };
        // Every element takes at least one byte, so the input bounds the loop and the list.
        let mut list = Vec::with_capacity(len.min(reader.rest().len()).min(1024));
        for _ in 0..len {
            list.extend(reader.part(1, T::decode)?);
        }
        Ok(Self(Some(list)))
    }
    fn encode(&self, out: &mut Vec<u8>) {
        let Some(list) = &self.0 else { return msgpack::write_nil(out) };
        msgpack::write_array(out, list.len());
        list.iter().for_each(|element| element.encode(out));
    }
}

/// Declares a message with its fields in the order in which agents write them (sorted by name). `optional`
/// fields are omitted when empty.
macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $key:literal $($optional:ident)? => $field:ident: $ty:ty,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = concat!("The field `", $key, "`.")] $(#[$field_meta])* pub $field: $ty,)*
        }

        impl $name {
            /// Field names, in the order in which they are written.
            pub const FIELDS: &'static [&'static str] = &[$($key),*];

            /// Decodes the message at the start of `bytes`; bytes after it are ignored.
            pub fn decode(bytes: &[u8]) -> Result<Self, $crate::wire::msgpack::DecodeError> {
                $crate::wire::field::Field::decode(&mut $crate::wire::msgpack::Reader::new(bytes))
            }

            /// Decodes the usable parts of the message at the start of `bytes`. Fields, list elements and map
            /// pairs that cannot be decoded are skipped and counted. Fails if the message is not a map, or its
            /// structure is broken.
            pub fn decode_parts(bytes: &[u8]) -> Result<(Self, usize), $crate::wire::msgpack::DecodeError> {
                let mut reader = $crate::wire::msgpack::Reader::new(bytes).leaving_out();
                let mut message = Self::default();
                for _ in 0..reader.map()? {
                    // Without a name the value is skipped too.
                    let Some(key) = reader.part(2, |reader| reader.bytes())? else { continue };
                    let key = key.unwrap_or_default();
                    $(if key == $key.as_bytes() {
                        if let Some(field) = reader.part(1, $crate::wire::field::Field::decode)? {
                            message.$field = field;
                        }
                        $($crate::wire::field::messages!(@absent message.$field $optional);)?
                        continue;
                    })*
                    reader.skip()?;
                }
                Ok((message, reader.left_out()))
            }

            /// Encodes the message, without a type byte.
            pub fn encode(&self) -> Vec<u8> {
                let mut out = Vec::new();
                $crate::wire::field::Field::encode(self, &mut out);
                out
            }
        }

        impl $crate::wire::field::Field for $name {
            fn decode(
                reader: &mut $crate::wire::msgpack::Reader<'_>,
            ) -> Result<Self, $crate::wire::msgpack::DecodeError> {
                let mut message = Self::default();
                for _ in 0..reader.map()? {
                    let key = reader.bytes()?.unwrap_or_default();
                    $(if key == $key.as_bytes() {
                        message.$field = $crate::wire::field::Field::decode(reader)?;
                        $($crate::wire::field::messages!(@absent message.$field $optional);)?
                        continue;
                    })*
                    reader.skip()?;
                }
                Ok(message)
            }

            fn encode(&self, out: &mut Vec<u8>) {
                let present = [$($crate::wire::field::messages!(@present self.$field $($optional)?)),*];
                $crate::wire::msgpack::write_map(out, present.iter().filter(|p| **p).count());
                $(if $crate::wire::field::messages!(@present self.$field $($optional)?) {
                    $crate::wire::msgpack::write_raw(out, $key.as_bytes());
                    $crate::wire::field::Field::encode(&self.$field, out);
                })*
            }
        }
    )*};
    // Empty bytes mean the same as none, and are omitted.
    (@absent $message:ident.$field:ident optional) => {
        if $crate::wire::field::Field::is_empty(&$message.$field) {
            $message.$field = Default::default();
        }
    };
    (@present $self:ident.$field:ident optional) => {
        !$crate::wire::field::Field::is_empty(&$self.$field)
    };
    (@present $self:ident.$field:ident) => {
        true
    };
}
pub(crate) use messages;

/// List slot that may be nil.
impl<T: Field> Field for Option<Box<T>> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.nil()? { Ok(None) } else { Ok(Some(Box::new(T::decode(reader)?))) }
    }
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.encode(out),
            None => msgpack::write_nil(out),
        }
    }
}
