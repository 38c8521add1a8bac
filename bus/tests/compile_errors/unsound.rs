use std::{rc::Rc, sync::Arc};

use shmbus::{ShmMessage, ShmType};

#[derive(ShmType)]
enum Discriminants {
    A = 1,
    B = 5,
}

#[derive(ShmMessage)]
struct Shared {
    one: Rc<u32>,
    text: Option<std::sync::Arc<str>>,
    #[shm(opaque = "shared@1")]
    opaque: Arc<u32>,
}

#[derive(ShmType, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[shm(archive = manual)]
struct Niche {
    #[rkyv(with = rkyv::with::NicheInto<rkyv::niche::niching::Zero>)]
    text: Option<std::num::NonZeroU32>,
}

fn main() {}
