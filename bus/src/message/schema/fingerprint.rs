//! Sixty-four bits that stand for a schema.

use rkyv::{Archived, primitive::ArchivedU32};

use super::{Field, Kind, Schema, TypeRef};

/// Counts the changes of what is folded in below.
const FORMAT: u64 = 1;
/// The major and minor version of rkyv, whose archives are only compatible within.
const RKYV: [u64; 2] = [0, 8];

/// FNV-1a with 64 bits: the same in every process, whatever compiler and standard library built it.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Fnv {
    const fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    const fn number(mut self, value: u64) -> Fnv {
        let bytes = value.to_le_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self.0 = (self.0 ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
            i += 1;
        }
        self
    }

    fn text(mut self, text: &str) -> Fnv {
        // The length first: without it, `ab` + `c` and `a` + `bc` would be one.
        self = self.number(text.len() as u64);
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    fn ty(self, ty: TypeRef) -> Fnv {
        self.number(u64::from(ty.0))
    }

    fn fields(self, fields: &[Field]) -> Fnv {
        fields
            .iter()
            .fold(self.number(fields.len() as u64), |hash, field| {
                hash.text(&field.name)
                    .ty(field.ty)
                    .number(field.offset.map_or(u64::MAX, u64::from))
            })
    }
}

/// A number that stands for the archive format in this build: width of pointers, byte order, alignment, version.
/// Nodes with different ones cannot read each other's messages.
#[must_use]
pub const fn abi() -> u64 {
    // SAFETY: an archived integer is its four bytes and nothing else.
    let one: [u8; 4] = unsafe { std::mem::transmute(ArchivedU32::from_native(1)) };
    Fnv::new()
        .number(FORMAT)
        .number(RKYV[0])
        .number(RKYV[1])
        .number(size_of::<Archived<usize>>() as u64)
        .number(u32::from_le_bytes(one) as u64)
        .number(align_of::<Archived<u16>>() as u64)
        .number(align_of::<Archived<u32>>() as u64)
        .number(align_of::<Archived<u64>>() as u64)
        .number(align_of::<Archived<u128>>() as u64)
        .0
}

impl Schema {
    /// The fingerprint: equal for equal schemas, whatever compiler and machine described them; different, as
    /// far as 64 bits go, for others. It includes the archive format ([`abi`]).
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let hash = Fnv::new()
            .number(self.abi)
            .ty(self.root)
            .number(self.types.len() as u64);
        self.types
            .iter()
            .fold(hash, |hash, ty| {
                let hash = hash
                    .text(&ty.name)
                    .number(u64::from(ty.size))
                    .number(u64::from(ty.align));
                match &ty.kind {
                    Kind::Scalar => hash.number(0),
                    Kind::Text => hash.number(1),
                    Kind::Struct(fields) => hash.number(2).fields(fields),
                    Kind::Enum(variants) => variants
                        .iter()
                        .fold(hash.number(3).number(variants.len() as u64), |hash, variant| {
                            hash.text(&variant.name).fields(&variant.fields)
                        }),
                    Kind::Option(a) => hash.number(4).ty(*a),
                    Kind::Result(a, b) => hash.number(5).ty(*a).ty(*b),
                    Kind::Pointer(a) => hash.number(6).ty(*a),
                    Kind::Sequence(a) => hash.number(7).ty(*a),
                    Kind::Array(a, len) => hash.number(8).ty(*a).number(*len),
                    Kind::Set(a) => hash.number(9).ty(*a),
                    Kind::Map(a, b) => hash.number(10).ty(*a).ty(*b),
                    Kind::Opaque => hash.number(11),
                }
            })
            .0
    }
}
