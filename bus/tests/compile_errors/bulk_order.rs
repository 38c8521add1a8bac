use shmbus::{Bulk, ShmMessage, ShmType};

#[derive(ShmMessage)]
struct AfterText {
    seq: u64,
    camera: String,
    data: Bulk,
}

#[derive(ShmType)]
struct Tag {
    id: u32,
    next: Option<Box<Tag>>,
}

/// A list in a type of one's own.
#[derive(ShmMessage)]
struct AfterTag {
    tag: (u8, Tag),
    data: Bulk,
}

fn main() {}
