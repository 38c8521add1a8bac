use shmbus::{Bulk, ShmMessage, ShmType};

#[derive(ShmMessage)]
struct Two {
    left: Bulk,
    right: Bulk,
}

#[derive(ShmMessage)]
struct InList {
    parts: Vec<Bulk>,
}

#[derive(ShmMessage)]
struct InOption {
    part: Option<shmbus::Bulk>,
}

#[derive(ShmMessage)]
enum InVariant {
    Data(Bulk),
    Nothing,
}

#[derive(ShmMessage)]
struct Labelled {
    #[shm(opaque = "bulk@1")]
    data: Bulk,
}

#[derive(ShmType)]
struct Part {
    data: Bulk,
}

fn main() {}
