//! The types of the standard library that messages are made of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    hash::{BuildHasher, Hash},
    mem::offset_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    num::{
        NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroU8, NonZeroU16, NonZeroU32,
        NonZeroU64, NonZeroU128,
    },
    time::Duration,
};

use rkyv::Archived;

use super::{
    private::out_of_line_sum,
    schema::{Builder, Field, Kind, TypeRef},
    traits::ShmType,
};

macro_rules! scalars {
    ($($ty:ty)*) => {$(
        impl ShmType for $ty {
            fn describe(schema: &mut Builder) -> TypeRef {
                schema.define::<Self>(stringify!($ty), |_| Kind::Scalar)
            }

            const POINTS: bool = false;

            #[inline(always)]
            fn out_of_line(&self) -> Option<usize> {
                Some(0)
            }
        }
    )*};
}

scalars! {
    () bool char i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 Duration
    NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128
    NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128
    Ipv4Addr Ipv6Addr IpAddr SocketAddrV4 SocketAddrV6 SocketAddr
}

/// The bound of list elements elsewhere in the archive: what they point to, then padding, then themselves.
#[inline]
fn list<'a, T: ShmType>(elements: impl ExactSizeIterator<Item = &'a T>) -> Option<usize> {
    let table = elements.len().saturating_mul(size_of::<T::Archived>()) + align_of::<T::Archived>() - 1;
    elements
        .map(T::out_of_line)
        .try_fold(table, |sum, more| Some(sum.saturating_add(more?)))
}

impl ShmType for String {
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("String", |_| Kind::Text)
    }

    #[inline]
    fn out_of_line(&self) -> Option<usize> {
        // Short text lies in the string itself.
        Some(if self.len() <= size_of::<Archived<String>>() {
            0
        } else {
            self.len()
        })
    }
}

impl ShmType for Box<str> {
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("Box<str>", |_| Kind::Text)
    }

    #[inline]
    fn out_of_line(&self) -> Option<usize> {
        Some(self.len())
    }
}

macro_rules! lists {
    ($($name:literal $ty:ty)*) => {$(
        impl<T: ShmType> ShmType for $ty {
            fn describe(schema: &mut Builder) -> TypeRef {
                schema.define::<Self>($name, |schema| Kind::Sequence(T::describe(schema)))
            }

            #[inline]
            fn out_of_line(&self) -> Option<usize> {
                list(self.iter())
            }

            fn nests() -> bool {
                T::nests()
            }
        }
    )*};
}

lists! { "Vec" Vec<T>  "VecDeque" VecDeque<T>  "Box<[]>" Box<[T]> }

impl<T: ShmType> ShmType for Box<T> {
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("Box", |schema| Kind::Pointer(T::describe(schema)))
    }

    #[inline]
    fn out_of_line(&self) -> Option<usize> {
        let pointee = size_of::<T::Archived>() + align_of::<T::Archived>() - 1;
        out_of_line_sum(Some(pointee), (**self).out_of_line())
    }

    fn nests() -> bool {
        T::nests()
    }
}

impl<T: ShmType> ShmType for Option<T> {
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("Option", |schema| Kind::Option(T::describe(schema)))
    }

    const POINTS: bool = T::POINTS;

    #[inline]
    fn out_of_line(&self) -> Option<usize> {
        self.as_ref().map_or(Some(0), T::out_of_line)
    }

    fn nests() -> bool {
        T::nests()
    }
}

impl<T: ShmType, E: ShmType> ShmType for Result<T, E> {
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("Result", |schema| {
            Kind::Result(T::describe(schema), E::describe(schema))
        })
    }

    const POINTS: bool = T::POINTS || E::POINTS;

    #[inline]
    fn out_of_line(&self) -> Option<usize> {
        match self {
            Ok(value) => value.out_of_line(),
            Err(error) => error.out_of_line(),
        }
    }

    fn nests() -> bool {
        T::nests() || E::nests()
    }
}

impl<T: ShmType, const N: usize> ShmType for [T; N] {
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("array", |schema| Kind::Array(T::describe(schema), N as u64))
    }

    const POINTS: bool = T::POINTS;

    #[inline]
    fn out_of_line(&self) -> Option<usize> {
        self.iter()
            .map(T::out_of_line)
            .try_fold(0_usize, |sum, more| Some(sum.saturating_add(more?)))
    }

    fn nests() -> bool {
        T::nests()
    }
}

impl<K, V, S> ShmType for HashMap<K, V, S>
where
    K: ShmType<Archived: Hash + Eq> + Hash + Eq,
    V: ShmType,
    S: BuildHasher + Default + Send + Sync + 'static,
{
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("HashMap", |schema| {
            Kind::Map(K::describe(schema), V::describe(schema))
        })
    }

    #[inline]
    fn out_of_line(&self) -> Option<usize> {
        None
    }

    fn nests() -> bool {
        K::nests() || V::nests()
    }
}

impl<K, V> ShmType for BTreeMap<K, V>
where
    K: ShmType<Archived: Ord> + Ord,
    V: ShmType,
{
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("BTreeMap", |schema| {
            Kind::Map(K::describe(schema), V::describe(schema))
        })
    }

    #[inline]
    fn out_of_line(&self) -> Option<usize> {
        None
    }

    fn nests() -> bool {
        K::nests() || V::nests()
    }
}

impl<K, S> ShmType for HashSet<K, S>
where
    K: ShmType<Archived: Hash + Eq> + Hash + Eq,
    S: BuildHasher + Default + Send + Sync + 'static,
{
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("HashSet", |schema| Kind::Set(K::describe(schema)))
    }

    #[inline]
    fn out_of_line(&self) -> Option<usize> {
        None
    }

    fn nests() -> bool {
        K::nests()
    }
}

impl<K> ShmType for BTreeSet<K>
where
    K: ShmType<Archived: Ord> + Ord,
{
    fn describe(schema: &mut Builder) -> TypeRef {
        schema.define::<Self>("BTreeSet", |schema| Kind::Set(K::describe(schema)))
    }

    #[inline]
    fn out_of_line(&self) -> Option<usize> {
        None
    }

    fn nests() -> bool {
        K::nests()
    }
}

macro_rules! tuples {
    ($(($($T:ident $i:tt),*))*) => {$(
        impl<$($T: ShmType),*> ShmType for ($($T,)*) {
            fn describe(schema: &mut Builder) -> TypeRef {
                schema.define::<Self>("", |schema| Kind::Struct(vec![$(
                    Field::new(
                        stringify!($i),
                        $T::describe(schema),
                        Some(offset_of!(Archived<Self>, $i)),
                    )
                ),*]))
            }

            const POINTS: bool = false $(|| $T::POINTS)*;

            #[inline]
            fn out_of_line(&self) -> Option<usize> {
                let sum = Some(0);
                $(let sum = out_of_line_sum(sum, self.$i.out_of_line());)*
                sum
            }

            fn nests() -> bool {
                false $(|| $T::nests())*
            }
        }
    )*};
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11)
}
