use shmbus::{Bulk, ShmMessage};

#[derive(ShmMessage)]
struct Frame {
    data: Bulk,
}

fn part<T: shmbus::ShmType>() {}

fn main() {
    part::<Vec<Bulk>>();
    part::<Option<Frame>>();
}
