//! Messages with all that an archive can hold.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use crate::{
    Bulk, ShmMessage, ShmType,
    message::{Received, Trust},
    shm::{descriptor::Descriptor, inbound::Inbound},
};

#[derive(Debug, ShmMessage)]
pub(super) struct Fixed {
    pub(super) small: u8,
    pub(super) wide: u64,
    pub(super) list: [u16; 3],
    pub(super) truth: bool,
    pub(super) letter: char,
    pub(super) maybe: Option<i32>,
}

#[derive(Debug, ShmMessage)]
#[shm(reply = Nested)]
pub(super) struct Texts {
    pub(super) one: String,
    pub(super) many: Vec<String>,
    pub(super) maybe: Option<Box<str>>,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, ShmType)]
pub(super) enum Shape {
    Point,
    Circle(u32, f64),
    Named { name: String, corners: Vec<(i16, i16)> },
}

#[derive(Debug, ShmMessage)]
pub(super) struct Nested {
    pub(super) shapes: Vec<Shape>,
    pub(super) by_name: HashMap<String, u32>,
    pub(super) by_number: BTreeMap<u32, Vec<u8>>,
    pub(super) outcome: Result<Duration, String>,
}

#[derive(Debug, ShmMessage)]
pub(super) struct Tree {
    pub(super) name: String,
    pub(super) children: Vec<Tree>,
}

#[derive(Debug, ShmMessage)]
pub(super) struct Picture {
    pub(super) number: u64,
    pub(super) data: Bulk,
    pub(super) camera: String,
}

/// How many types [`open_any`] knows.
pub(super) const TYPES: u8 = 6;

/// Opens a message as one of the types, as a dispatch does, and reads all of it.
pub(super) fn open_any(which: u8, inbound: Arc<Inbound>, descriptor: &Descriptor) {
    match which % TYPES {
        0 => open::<Fixed>(inbound, descriptor),
        1 => open::<Texts>(inbound, descriptor),
        2 => open::<Nested>(inbound, descriptor),
        3 => open::<Tree>(inbound, descriptor),
        4 => open::<Picture>(inbound, descriptor),
        _ => open::<()>(inbound, descriptor),
    }
}

fn open<T: Debug + crate::message::ShmRoot<Archived: Debug>>(inbound: Arc<Inbound>, descriptor: &Descriptor) {
    if let Ok(received) = Received::<T>::open(inbound, descriptor, Trust::Checked, |message| message) {
        walk(&received);
    }
}

/// Reads all of it, as a handler might.
pub(super) fn walk<T: Debug + crate::message::ShmRoot<Archived: Debug>>(received: &Received<T>) {
    let text = format!("{received:?}{:?}", received.to_owned());
    assert!(!text.is_empty());
}
