use shmbus::ShmMessage;

struct Plain(u32);

#[derive(ShmMessage)]
struct Message {
    id: u32,
    plain: Plain,
}

fn main() {}
