use shmbus::ShmMessage;

struct Plain(u32);

#[derive(ShmMessage)]
#[shm(reply = Plain)]
struct Message {
    id: u32,
}

fn main() {}
