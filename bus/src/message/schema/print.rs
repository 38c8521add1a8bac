//! Schemas as text.

use std::fmt::{self, Write};

use super::{Field, Kind, Schema, TypeRef};

/// Type parameters are written out to this depth; a peer's schema may be deeper, or endless.
const MAX_DEPTH: usize = 16;
/// How many type names are written per name or page: each level may double them.
const MAX_NAMES: usize = 4096;
/// Names are cut after so many characters.
const MAX_NAME: usize = 80;

/// A name that may come from a peer: no control characters, not endless.
pub(super) fn shown(name: &str) -> String {
    let mut chars = name.chars();
    let mut shown: String = chars
        .by_ref()
        .take(MAX_NAME)
        .flat_map(char::escape_debug)
        .collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

impl Schema {
    /// The name of a type with its parameters, such as `Vec<Option<u32>>`.
    pub(super) fn name(&self, ty: TypeRef) -> String {
        let mut out = String::new();
        let mut left = 64;
        // Writing to a string cannot fail.
        let _ = self.write_name(&mut out, ty, MAX_DEPTH, &mut left);
        out
    }

    fn write_name(&self, out: &mut dyn Write, ty: TypeRef, depth: usize, left: &mut usize) -> fmt::Result {
        let Some(it) = self.get(ty) else {
            return out.write_char('?');
        };
        if depth == 0 || *left == 0 {
            return out.write_str("...");
        }
        *left -= 1;
        let name = shown(&it.name);
        let mut part = |out: &mut dyn Write, ty| self.write_name(out, ty, depth - 1, left);
        match &it.kind {
            Kind::Scalar | Kind::Text | Kind::Enum(_) => out.write_str(&name),
            Kind::Opaque => write!(out, "opaque `{name}`"),
            // A tuple has no name.
            Kind::Struct(fields) if name.is_empty() => {
                out.write_char('(')?;
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        out.write_str(", ")?;
                    }
                    part(out, field.ty)?;
                }
                out.write_char(')')
            }
            Kind::Struct(_) => out.write_str(&name),
            Kind::Array(of, len) => {
                out.write_char('[')?;
                part(out, *of)?;
                write!(out, "; {len}]")
            }
            Kind::Option(of) | Kind::Pointer(of) | Kind::Sequence(of) | Kind::Set(of) => {
                write!(out, "{name}<")?;
                part(out, *of)?;
                out.write_char('>')
            }
            Kind::Result(a, b) | Kind::Map(a, b) => {
                write!(out, "{name}<")?;
                part(out, *a)?;
                out.write_str(", ")?;
                part(out, *b)?;
                out.write_char('>')
            }
        }
    }

    fn write_fields(
        &self,
        f: &mut fmt::Formatter<'_>,
        fields: &[Field],
        indent: &str,
        left: &mut usize,
    ) -> fmt::Result {
        for field in fields {
            if *left == 0 {
                return writeln!(f, "{indent}...");
            }
            write!(f, "{indent}{}: ", shown(&field.name))?;
            self.write_name(f, field.ty, MAX_DEPTH, left)?;
            match field.offset {
                Some(offset) => writeln!(f, ", at {offset}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// Each structure and enum once, with archived sizes and offsets in bytes:
///
/// ```
/// # use shmbus::{ShmType, message::schema::Schema};
/// # #[derive(ShmType)] struct Reserve { sku: String, qty: u32 }
/// # let _ = Reserve { sku: String::new(), qty: 1 };
/// assert_eq!(
///     Schema::of::<Reserve>().to_string(),
///     "Reserve, 12 bytes\n\
///      \n\
///      struct Reserve (12 bytes, aligned to 4)\n\
///      \x20   sku: String, at 0\n\
///      \x20   qty: u32, at 8\n"
/// );
/// ```
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = MAX_NAMES;
        self.write_name(f, self.root, MAX_DEPTH, &mut left)?;
        match self.get(self.root) {
            Some(root) => writeln!(f, ", {} bytes", root.size)?,
            None => writeln!(f)?,
        }
        for ty in &self.types {
            if left == 0 {
                return writeln!(f, "...");
            }
            let (name, size, align) = (shown(&ty.name), ty.size, ty.align);
            match &ty.kind {
                Kind::Struct(fields) if !name.is_empty() => {
                    writeln!(f, "\nstruct {name} ({size} bytes, aligned to {align})")?;
                    self.write_fields(f, fields, "    ", &mut left)?;
                }
                Kind::Enum(variants) => {
                    writeln!(f, "\nenum {name} ({size} bytes, aligned to {align})")?;
                    for variant in variants {
                        if left == 0 {
                            return writeln!(f, "...");
                        }
                        left -= 1;
                        writeln!(f, "    {}", shown(&variant.name))?;
                        self.write_fields(f, &variant.fields, "        ", &mut left)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
