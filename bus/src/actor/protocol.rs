//! Which messages an address takes.

use crate::{message::ShmMessage, session::mailbox::Kind};

/// What an [`Address`](crate::Address) takes: a message type, or a tuple of up to eight.
///
/// ```
/// use shmbus::prelude::*;
/// #[derive(ShmMessage)] pub struct Open { pub by: u32 }
/// #[derive(ShmMessage)] pub struct Close;
/// fn both(door: &Address<(Open, Close)>) {
///     let _ = door.try_tell(&Open { by: 7 });
///     let _ = door.try_tell(&Close);
/// }
/// ```
pub trait Protocol: 'static {
    #[doc(hidden)]
    fn kinds() -> Kinds;
}

/// What peers compare when an address is opened.
#[doc(hidden)]
#[derive(Debug)]
pub struct Kinds(pub(crate) Vec<Kind>);

/// Where in a tuple a message stands; the compiler finds it.
#[doc(hidden)]
#[derive(Debug)]
pub struct At<const INDEX: usize>;

/// The only message.
#[doc(hidden)]
#[derive(Debug)]
pub struct Only;

/// Says that an address of protocol `Self` takes the message `M`. `Place` is inferred.
#[diagnostic::on_unimplemented(
    message = "this address does not take `{M}`",
    label = "an `Address<{Self}>` does not take this message",
    note = "open the address for it too: `bus.address::<(…, {M})>(name)`"
)]
pub trait Accepts<M: ShmMessage, Place>: Protocol {
    #[doc(hidden)]
    const INDEX: usize;
}

impl<M: ShmMessage> Protocol for M {
    fn kinds() -> Kinds {
        Kinds(vec![Kind::of::<M>()])
    }
}

impl<M: ShmMessage> Accepts<M, Only> for M {
    const INDEX: usize = 0;
}

macro_rules! tuples {
    ($($all:ident)+) => {
        impl<$($all: ShmMessage),+> Protocol for ($($all,)+) {
            fn kinds() -> Kinds {
                Kinds(vec![$(Kind::of::<$all>()),+])
            }
        }
    };
}

macro_rules! places {
    ($index:literal $one:ident of $($all:ident)+) => {
        impl<$($all: ShmMessage),+> Accepts<$one, At<$index>> for ($($all,)+) {
            const INDEX: usize = $index;
        }
    };
}

tuples!(A B);
places!(0 A of A B);
places!(1 B of A B);
tuples!(A B C);
places!(0 A of A B C);
places!(1 B of A B C);
places!(2 C of A B C);
tuples!(A B C D);
places!(0 A of A B C D);
places!(1 B of A B C D);
places!(2 C of A B C D);
places!(3 D of A B C D);
tuples!(A B C D E);
places!(0 A of A B C D E);
places!(1 B of A B C D E);
places!(2 C of A B C D E);
places!(3 D of A B C D E);
places!(4 E of A B C D E);
tuples!(A B C D E F);
places!(0 A of A B C D E F);
places!(1 B of A B C D E F);
places!(2 C of A B C D E F);
places!(3 D of A B C D E F);
places!(4 E of A B C D E F);
places!(5 F of A B C D E F);
tuples!(A B C D E F G);
places!(0 A of A B C D E F G);
places!(1 B of A B C D E F G);
places!(2 C of A B C D E F G);
places!(3 D of A B C D E F G);
places!(4 E of A B C D E F G);
places!(5 F of A B C D E F G);
places!(6 G of A B C D E F G);
tuples!(A B C D E F G H);
places!(0 A of A B C D E F G H);
places!(1 B of A B C D E F G H);
places!(2 C of A B C D E F G H);
places!(3 D of A B C D E F G H);
places!(4 E of A B C D E F G H);
places!(5 F of A B C D E F G H);
places!(6 G of A B C D E F G H);
places!(7 H of A B C D E F G H);
