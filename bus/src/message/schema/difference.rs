//! Where two schemas differ, for people.

use std::{
    collections::{HashMap, HashSet},
    mem::discriminant,
};

use super::{Field, Kind, Schema, Type, TypeRef, print::shown};

/// Pairs of types compared before giving up; a peer's schema may be large for no reason.
const MAX_PAIRS: usize = 100_000;
/// Longest path to a field, in bytes.
const MAX_PATH: usize = 512;

impl Schema {
    /// The first difference between this process's schema and a peer's, named from this process's side;
    /// `None` if they are the same.
    #[must_use]
    pub fn difference(ours: &Schema, theirs: &Schema) -> Option<String> {
        if ours.abi != theirs.abi {
            return Some(format!(
                "the archive format: here {:#018x}, there {:#018x} (other rkyv version or format features)",
                ours.abi, theirs.abi
            ));
        }
        Comparison {
            ours,
            theirs,
            todo: Vec::new(),
            seen: HashSet::new(),
            layout: None,
        }
        .run()
    }
}

struct Comparison<'a> {
    ours: &'a Schema,
    theirs: &'a Schema,
    /// Pairs still to compare with the path that led to them, the next one last.
    todo: Vec<(String, TypeRef, TypeRef)>,
    /// Pairs compared or to be compared; types may contain themselves.
    seen: HashSet<(TypeRef, TypeRef)>,
    /// The first difference of layout. Told only if there is no other: it mostly follows from another.
    layout: Option<String>,
}

impl<'a> Comparison<'a> {
    fn run(mut self) -> Option<String> {
        self.todo.push((String::new(), self.ours.root, self.theirs.root));
        while let Some((path, ours, theirs)) = self.todo.pop() {
            if !self.seen.insert((ours, theirs)) {
                continue;
            }
            if self.seen.len() > MAX_PAIRS {
                return Some("they are too large to compare".to_owned());
            }
            let at = self.todo.len();
            if let Some(difference) = self.pair(&path, ours, theirs) {
                return Some(difference);
            }
            // In the order of the fields, the first one last on the stack.
            self.todo[at..].reverse();
        }
        self.layout
    }

    fn pair(&mut self, path: &str, ours: TypeRef, theirs: TypeRef) -> Option<String> {
        let (Some(a), Some(b)) = (self.ours.get(ours), self.theirs.get(theirs)) else {
            return Some(format!("{}: a reference to no type", subject(path)));
        };
        let same_len = match (&a.kind, &b.kind) {
            (Kind::Array(_, a), Kind::Array(_, b)) => a == b,
            // Tuples have their number of fields in their type.
            (Kind::Struct(x), Kind::Struct(y)) if a.name.is_empty() => x.len() == y.len(),
            _ => true,
        };
        if a.name != b.name || discriminant(&a.kind) != discriminant(&b.kind) || !same_len {
            let (here, there) = (self.ours.name(ours), self.theirs.name(theirs));
            return Some(format!("{}: here {here}, there {there}", subject(path)));
        }
        if (a.size, a.align) != (b.size, b.align) && self.layout.is_none() {
            self.layout = Some(format!(
                "{}: here {} bytes aligned to {}, there {} bytes aligned to {}",
                subject(path),
                a.size,
                a.align,
                b.size,
                b.align
            ));
        }
        self.parts(path, a, b)
    }

    fn parts(&mut self, path: &str, a: &'a Type, b: &'a Type) -> Option<String> {
        match (&a.kind, &b.kind) {
            (Kind::Struct(a), Kind::Struct(b)) => return self.fields(path, a, b),
            (Kind::Enum(a), Kind::Enum(b)) => {
                for i in 0..a.len().max(b.len()) {
                    let (ours, theirs) = (a.get(i), b.get(i));
                    if ours.map(|v| &v.name) != theirs.map(|v| &v.name) {
                        let name = |v: Option<&super::Variant>| {
                            v.map_or_else(|| "none".to_owned(), |v| format!("`{}`", shown(&v.name)))
                        };
                        let (here, there) = (name(ours), name(theirs));
                        return Some(format!(
                            "{}: variant {i} is {here} here, {there} there",
                            subject(path)
                        ));
                    }
                    if let (Some(ours), Some(theirs)) = (ours, theirs) {
                        let path = join(path, &shown(&ours.name));
                        if let Some(difference) = self.fields(&path, &ours.fields, &theirs.fields) {
                            return Some(difference);
                        }
                    }
                }
            }
            (Kind::Option(a), Kind::Option(b)) | (Kind::Pointer(a), Kind::Pointer(b)) => {
                self.todo.push((path.to_owned(), *a, *b));
            }
            (Kind::Sequence(a), Kind::Sequence(b))
            | (Kind::Array(a, _), Kind::Array(b, _))
            | (Kind::Set(a), Kind::Set(b)) => self.todo.push((list(path, "[]"), *a, *b)),
            (Kind::Result(a, x), Kind::Result(b, y)) => {
                self.todo.push((join(path, "Ok"), *a, *b));
                self.todo.push((join(path, "Err"), *x, *y));
            }
            (Kind::Map(a, x), Kind::Map(b, y)) => {
                self.todo.push((list(path, "[key]"), *a, *b));
                self.todo.push((list(path, "[]"), *x, *y));
            }
            _ => {}
        }
        None
    }

    fn fields(&mut self, path: &str, ours: &[Field], theirs: &[Field]) -> Option<String> {
        let places: HashMap<&str, usize> = theirs
            .iter()
            .enumerate()
            .map(|(i, f)| (f.name.as_str(), i))
            .collect();
        for field in ours {
            if !places.contains_key(field.name.as_str()) {
                return Some(format!(
                    "{} is missing there",
                    subject(&join(path, &shown(&field.name)))
                ));
            }
        }
        let known: HashSet<&str> = ours.iter().map(|f| f.name.as_str()).collect();
        for field in theirs {
            if !known.contains(field.name.as_str()) {
                return Some(format!(
                    "{} is missing here",
                    subject(&join(path, &shown(&field.name)))
                ));
            }
        }
        for (i, field) in ours.iter().enumerate() {
            let path = join(path, &shown(&field.name));
            let there = *places.get(field.name.as_str())?;
            if there != i {
                let (here, there) = (i + 1, there + 1);
                return Some(format!(
                    "{}: number {here} here, number {there} there",
                    subject(&path)
                ));
            }
            let other = &theirs[there];
            if field.offset != other.offset && self.layout.is_none() {
                let shown = |offset: Option<u32>| offset.map_or_else(|| "?".to_owned(), |at| at.to_string());
                let (here, there) = (shown(field.offset), shown(other.offset));
                self.layout = Some(format!(
                    "{}: at offset {here} here, {there} there",
                    subject(&path)
                ));
            }
            self.todo.push((path, field.ty, other.ty));
        }
        None
    }
}

fn subject(path: &str) -> String {
    if path.is_empty() {
        "the type".to_owned()
    } else {
        format!("field `{path}`")
    }
}

fn join(path: &str, name: &str) -> String {
    if path.len() > MAX_PATH {
        return path.to_owned();
    }
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn list(path: &str, brackets: &str) -> String {
    if path.len() > MAX_PATH {
        path.to_owned()
    } else {
        format!("{path}{brackets}")
    }
}
