use shmbus::{ShmMessage, ShmType};

#[derive(ShmMessage)]
#[shm(rename = "other")]
struct UnknownKey {
    id: u32,
}

#[derive(ShmMessage)]
struct UnknownKeyOfField {
    #[shm(skip)]
    id: u32,
}

#[derive(ShmMessage)]
struct LabelWithoutVersion {
    #[shm(opaque = "uuid")]
    id: u32,
}

#[derive(ShmType)]
#[shm(reply = u32)]
struct ReplyOfNoMessage {
    id: u32,
}

#[derive(ShmMessage)]
#[shm(name = "a", name = "b")]
struct Twice {
    id: u32,
}

#[derive(ShmMessage)]
#[shm(archive = automatic)]
struct UnknownWay {
    id: u32,
}

#[derive(ShmType)]
enum OnVariant {
    #[shm(name = "other")]
    One,
}

#[derive(ShmType)]
#[shm(opaque = "a@1")]
struct OpaqueType(u8);

fn main() {}
